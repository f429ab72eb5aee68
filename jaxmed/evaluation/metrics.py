"""Metrics of a decision: the most probable class, or each label's yes or no.

The value for a split comes from scikit-learn. The values for resamples are computed
from sums over images, all resamples at once, and are the same numbers.

Multilabel tasks: a decision is `prob >= 0.5`, and "accuracy" is the share of all
(image, label) pairs that are right, as MedMNIST reports it (one minus scikit-learn's
`hamming_loss`); balanced accuracy is the mean over labels.
"""

import warnings
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals import Key, Undefined
from jaxmed.evaluation.predictions import Predictions

ONE_CLASS = Undefined("one class only")
NO_IMAGE = Undefined("no image of this class")
ALL_IMAGES = Undefined("every image is of this class")
NEVER_PREDICTED = Undefined("never predicted")
NEITHER = Undefined("no image of this class, and never predicted")


def decide(predictions: Predictions) -> np.ndarray:
    """Decides: the most probable class (n,), or prob >= 0.5 per label (n, k)."""
    if predictions.task == "multilabel":
        return (predictions.probs >= 0.5).astype(np.int64)
    return predictions.probs.argmax(axis=1)


def confusion_matrix(predictions: Predictions) -> list[list[int]] | None:
    """Counts images by true class (rows) and most probable class (columns).

    Returns:
        k lists of k counts; None in multilabel tasks.
    """
    from sklearn import metrics

    if predictions.task == "multilabel":
        return None
    classes = range(len(predictions.class_names))
    decided = decide(predictions)
    return metrics.confusion_matrix(
        predictions.labels, decided, labels=list(classes)
    ).tolist()


class ClassCounts:
    """Counts of right and wrong decisions per class, each against the rest.

    Args:
        truth: bool (n, k), whether the image is of the class.
        decided: bool (n, k), whether it is said to be.
    """

    def __init__(self, truth: np.ndarray, decided: np.ndarray):
        parts = (truth & decided, truth, decided)
        self._indicators = sparse.csr_array(
            np.concatenate(parts, axis=1).T.astype(np.float64)
        )

    def __call__(self, counts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns true positives, true and decided images: each (k, resamples)."""
        sums = np.asarray(self._indicators @ counts)
        both, true, decided = np.split(sums, 3)
        return both, true, decided


class Decisions:
    """Accuracy and balanced accuracy; precision, recall and F1 of each class."""

    def __init__(self, predictions: Predictions):
        self._predictions = predictions
        self._decided = decide(predictions)
        if predictions.task == "multilabel":
            decided = self._decided == 1
        else:
            classes = np.arange(len(predictions.class_names))
            decided = self._decided[:, None] == classes
        self._truth = predictions.truth
        self._counts = ClassCounts(self._truth, decided)

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself."""
        from sklearn import metrics

        labels, decided = self._predictions.labels, self._decided
        if self._predictions.task == "multilabel":
            accuracy = 1 - metrics.hamming_loss(labels, decided)
        else:
            accuracy = metrics.accuracy_score(labels, decided)
        values: dict[Key, float | Undefined] = {
            ("accuracy",): accuracy,
            ("balanced_accuracy",): self._balanced_accuracy(),
        }
        for name, scores in zip(
            self._predictions.class_names, self._scores(), strict=True
        ):
            precision, recall, f1 = scores
            values |= {
                ("per_class", name, "precision"): defined(precision, NEVER_PREDICTED),
                ("per_class", name, "recall"): defined(recall, NO_IMAGE),
                ("per_class", name, "f1"): defined(f1, NEITHER),
            }
        return values

    def _scores(self) -> np.ndarray:
        """Returns precision, recall and F1 of each class: (k, 3), NaN for 0/0."""
        from sklearn.metrics import precision_recall_fscore_support

        def scores(labels, decided, classes: list[int]) -> np.ndarray:
            nan: Any = np.nan
            precision, recall, f1, _ = precision_recall_fscore_support(
                labels, decided, labels=classes, zero_division=nan
            )
            return np.stack([precision, recall, f1], axis=-1)

        labels, decided = self._predictions.labels, self._decided
        if self._predictions.task != "multilabel":
            classes = list(range(len(self._predictions.class_names)))
            return scores(labels, decided, classes)
        pairs = zip(labels.T, decided.T, strict=True)
        return np.concatenate([scores(*pair, [1]) for pair in pairs])

    def _balanced_accuracy(self) -> float | Undefined:
        from sklearn import metrics

        labels, decided = self._predictions.labels, self._decided
        if self._predictions.task != "multilabel":
            if len(np.unique(labels)) == 1:
                return ONE_CLASS
            with quiet("y_pred contains classes not in y_true"):
                return metrics.balanced_accuracy_score(labels, decided)
        if (reason := undefined_classes(self._predictions)) is not None:
            return reason
        pairs = zip(labels.T, decided.T, strict=True)
        scores = [metrics.balanced_accuracy_score(*pair) for pair in pairs]
        return float(np.mean(scores))

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        both, true, decided = self._counts(counts)
        n, classes = len(counts), len(both)
        recall, precision = ratio(both, true), ratio(both, decided)
        f1 = ratio(2 * both, true + decided)
        if self._predictions.task == "multilabel":
            right = n - true - decided + 2 * both
            accuracy = right.sum(axis=0) / (n * classes)
            specificity = ratio(n - true - decided + both, n - true)
            balanced = ((recall + specificity) / 2).mean(axis=0)
        else:
            accuracy = both.sum(axis=0) / n
            # As scikit-learn has it: the mean over the classes that occur.
            balanced = recall[self._truth.any(axis=0)].mean(axis=0)
        samples: dict[Key, np.ndarray] = {
            ("accuracy",): accuracy,
            ("balanced_accuracy",): balanced,
        }
        for i, name in enumerate(self._predictions.class_names):
            samples |= {
                ("per_class", name, "precision"): precision[i],
                ("per_class", name, "recall"): recall[i],
                ("per_class", name, "f1"): f1[i],
            }
        return samples


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; 0/0 is NaN, without a warning."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    nan = np.full(shape, np.nan)
    return np.divide(numerator, denominator, out=nan, where=denominator != 0)


def defined(value: float, otherwise: Undefined) -> float | Undefined:
    """Returns the value, or what stands for it if it is NaN."""
    return otherwise if np.isnan(value) else float(value)


def undefined_classes(predictions: Predictions) -> Undefined | None:
    """Says why one-vs-rest metrics have no mean over all classes, if they have none."""
    share = predictions.truth.mean(axis=0)
    if predictions.task != "multilabel" and (share == 1).any():
        return ONE_CLASS
    for wanted, reason in ((0, NO_IMAGE.reason), (1, ALL_IMAGES.reason)):
        names = [
            repr(name)
            for name, value in zip(predictions.class_names, share, strict=True)
            if value == wanted
        ]
        if names:
            return Undefined(f"{reason}: {', '.join(names)}")
    return None


@contextmanager
def quiet(message: str):
    """Silences scikit-learn's warnings that start with the message, a pattern."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, UserWarning)
        yield
