"""Decision thresholds: chosen on validation, applied to test."""

from typing import Any

import numpy as np

from jaxmed.evaluation.intervals import Key, Undefined
from jaxmed.evaluation.metrics import (
    ALL_IMAGES,
    NEITHER,
    NEVER_PREDICTED,
    NO_IMAGE,
    ClassCounts,
    defined,
    ratio,
)
from jaxmed.evaluation.predictions import Predictions

# Differences of J below this are rounding: J is a difference of two ratios of counts.
TIE = 1e-12


def youden_threshold(truth: np.ndarray, scores: np.ndarray) -> float | Undefined:
    """Chooses the threshold with the largest J = sensitivity + specificity - 1.

    Youden, "Index for rating diagnostic tests", Cancer 1950. The candidates are the
    scores at the corners of scikit-learn's ROC curve; the decision is `score >=
    threshold`. Among ties the highest threshold is taken, which has the fewest false
    positives. The infinite threshold at which nothing is positive is no candidate.

    Args:
        truth: bool (n,), the positives.
        scores: float (n,), higher for positives.

    Returns:
        One of the scores; undefined if all images are of one class.
    """
    from sklearn.metrics import roc_curve

    if not truth.any():
        return NO_IMAGE
    if truth.all():
        return ALL_IMAGES
    false_positive_rate, sensitivity, thresholds = roc_curve(truth, scores)
    # The first threshold is infinity; the others fall.
    youden_j = (sensitivity - false_positive_rate)[1:]
    best = np.flatnonzero(youden_j >= youden_j.max() - TIE)[0]
    return float(thresholds[1:][best])


def choose_thresholds(predictions: Predictions) -> dict[str, float | Undefined]:
    """Chooses Youden's threshold for each class against the rest.

    Args:
        predictions: of the validation split.

    Returns:
        By class name; in binary tasks of the positive class only.
    """
    first = 1 if predictions.task == "binary" else 0
    return {
        name: youden_threshold(predictions.truth[:, i], predictions.probs[:, i])
        for i, name in enumerate(predictions.class_names)
        if i >= first
    }


class ThresholdDecisions:
    """The metrics of `prob >= threshold`, of each class against the rest.

    Keys are ("at_threshold", metric) in binary tasks, else ("at_threshold", class,
    metric).

    Args:
        predictions: n images.
        thresholds: see `choose_thresholds`.
    """

    def __init__(
        self, predictions: Predictions, thresholds: dict[str, float | Undefined]
    ):
        binary = predictions.task == "binary"
        self._thresholds = list(thresholds.values())
        self._prefixes: list[Key] = [
            ("at_threshold",) if binary else ("at_threshold", name)
            for name in thresholds
        ]
        columns = [predictions.class_names.index(name) for name in thresholds]
        self._truth = predictions.truth[:, columns]
        cuts = [np.inf if isinstance(t, Undefined) else t for t in self._thresholds]
        self._decided = predictions.probs[:, columns] >= np.array(cuts)
        self._counts = ClassCounts(self._truth, self._decided)

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself."""
        values: dict[Key, float | Undefined] = {}
        for i, (prefix, threshold) in enumerate(
            zip(self._prefixes, self._thresholds, strict=True)
        ):
            metrics = _values(self._truth[:, i], self._decided[:, i])
            if isinstance(threshold, Undefined):
                reason = Undefined(f"no threshold, as in val: {threshold.reason}")
                metrics = dict.fromkeys(metrics, reason)
            values |= {(*prefix, name): value for name, value in metrics.items()}
        return values

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        n = len(counts)
        both, true, decided = self._counts(counts)
        neither = n - true - decided + both
        sensitivity, specificity = ratio(both, true), ratio(neither, n - true)
        samples = {
            "accuracy": (both + neither) / n,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": ratio(both, decided),
            "f1": ratio(2 * both, true + decided),
            "youden_j": sensitivity + specificity - 1,
        }
        return {
            (*prefix, name): sample[i]
            for i, prefix in enumerate(self._prefixes)
            for name, sample in samples.items()
        }


def _values(truth: np.ndarray, decided: np.ndarray) -> dict[str, float | Undefined]:
    from sklearn import metrics

    nan: dict[str, Any] = {"zero_division": np.nan}
    sensitivity = metrics.recall_score(truth, decided, **nan)
    specificity = metrics.recall_score(truth, decided, pos_label=0, **nan)
    precision = metrics.precision_score(truth, decided, **nan)
    youden_j = sensitivity + specificity - 1
    return {
        "accuracy": metrics.accuracy_score(truth, decided),
        "sensitivity": defined(sensitivity, NO_IMAGE),
        "specificity": defined(specificity, ALL_IMAGES),
        "precision": defined(precision, NEVER_PREDICTED),
        "f1": defined(metrics.f1_score(truth, decided, **nan), NEITHER),
        "youden_j": defined(youden_j, NO_IMAGE if not truth.any() else ALL_IMAGES),
    }
