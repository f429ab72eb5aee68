"""Metrics of decisions: the most probable class, or yes or no for each label.

Definitions are scikit-learn's. All numbers are computed from sums over images, those
of all resamples at once.

Multilabel tasks: a decision is `prob >= 0.5`, and "accuracy" is the share of all known
(image, label) pairs that are right, as MedMNIST reports it (one minus scikit-learn's
`hamming_loss`); other metrics are means over labels, of the images whose label is
known.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import Interval, Key, Measure, Undefined
from jaxmed.evaluation.intervals.proportions import (
    class_intervals,
    mean_interval,
    shares,
)
from jaxmed.evaluation.metrics.counts import (
    ALL_ALIKE,
    ONE_CLASS,
    ONE_OUTCOME,
    ClassCounts,
    Tallies,
    ratio,
    scores,
    why_undefined,
)
from jaxmed.evaluation.predictions import Predictions


def kappa(tallies: Tallies) -> np.ndarray:
    """Compute Cohen's kappa (1960): (resamples,), NaN if chance agrees fully."""
    right, chance, n = _sums(tallies)
    return ratio(n * right - chance, n * n - chance)


def mcc(tallies: Tallies) -> np.ndarray:
    """Compute Matthews' correlation of k classes: (resamples,).

    Gorodkin, "Comparing two K-category assignments by a K-category correlation
    coefficient", 2004. NaN if all labels, or all decisions, are alike.
    """
    right, chance, n = _sums(tallies)
    of_labels = n * n - np.square(tallies.true).sum(axis=0)
    of_decisions = n * n - np.square(tallies.predicted).sum(axis=0)
    return ratio(n * right - chance, np.sqrt(of_labels * of_decisions))


def _sums(tallies: Tallies) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = (tallies.true * tallies.predicted).sum(axis=0)
    return tallies.both.sum(axis=0), chance, tallies.n[0]


class QuadraticKappa:
    """Cohen's kappa with quadratic weights (Cohen 1968), for ordered classes.

    1 - mean((i - j)^2) / expected((i - j)^2), where i is the label, j the decision,
    and chance draws them independently: means of i, j and their squares suffice.

    Args:
        labels, decided: int (n,), indices of ordered classes.
    """

    def __init__(self, labels: np.ndarray, decided: np.ndarray):
        i, j = labels.astype(np.float64), decided.astype(np.float64)
        self._parts = np.stack([np.square(i - j), i, j, i * i, j * j])

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Compute it in resamples: counts is (n, resamples)."""
        # Not a matrix product, whose threads would fight with those of a training.
        sums = np.einsum("in,nr->ir", self._parts, counts)
        observed, i, j, i_squared, j_squared = sums
        n = counts.sum(axis=0)
        return 1 - ratio(n * observed, n * i_squared + n * j_squared - 2 * i * j)


# In a binary task, of the positive class. What depends on a threshold, such as
# sensitivity, is said at the threshold that was chosen: see `at_threshold`.
BINARY = ("f1", "mcc", "kappa")
# In a multilabel task, means over labels.
MEANS = ("balanced_accuracy", *BINARY)
# In a task of one class an image, of all classes at once.
AGREEMENT = ("mcc", "kappa", "quadratic_kappa")
# Pooled over classes, what is the accuracy if an image has one class.
ONE_DECISION = ("precision", "recall", "f1")
# Of each class, by the names that go with one class of many; averages have them too.
PER_CLASS = {
    "precision": "ppv",
    "recall": "sensitivity",
    "specificity": "specificity",
    "npv": "npv",
    "f1": "f1",
}
# With more classes than this, only numbers about all of them get intervals.
MANY = 200
# A reason names no more classes than these.
NAMED = 3


def default_decisions(predictions: Predictions) -> np.ndarray:
    """Return the most probable class (n,), or prob >= 0.5 per label (n, k)."""
    if predictions.task == "multilabel":
        return (predictions.probs >= 0.5).astype(np.int64)
    return predictions.probs.argmax(axis=1)


def confusion_matrix(predictions: Predictions) -> list[list[int]] | None:
    """Count images by true class (rows) and most probable class (columns).

    Returns:
        k lists of k counts; None in multilabel tasks, and with more than `MANY`
        classes, whose matrix nobody can read.
    """
    k = len(predictions.class_names)
    if predictions.task == "multilabel" or k > MANY:
        return None
    cells = predictions.labels * k + default_decisions(predictions)
    return np.bincount(cells, minlength=k * k).reshape(k, k).tolist()


class Decisions(Measure):
    """What can be said of decisions: overall, of each class, and averaged.

    Keys are (metric,), ("per_class", name, metric) and, with more than two classes or
    labels, ("averages", "macro" or "micro" or "weighted", metric).

    Args:
        predictions: n images.
        decisions: shaped as the labels; None for `default_decisions`.
        per_class: also of each class, and averaged.
    """

    def __init__(
        self,
        predictions: Predictions,
        decisions: np.ndarray | None = None,
        *,
        per_class: bool = True,
    ):
        self._per_class = per_class
        self._task, self._names = predictions.task, predictions.class_names
        self._index_of = {name: i for i, name in enumerate(self._names)}
        self.images = len(predictions.ids)
        if decisions is None:
            decisions = default_decisions(predictions)
        self._quadratic = None
        if self._task == "ordinal":
            self._quadratic = QuadraticKappa(predictions.labels, decisions)
        if self._task == "multilabel":
            members = decisions == 1
        else:
            members = decisions[:, None] == np.arange(len(self._names))
        self._counts = ClassCounts(predictions.truth, members, predictions.known)
        self._whole = self._counts(np.ones((self.images, 1)))
        self._reasons_of: dict[str, list[Undefined | None]] = {}

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Compute the metrics of resamples, see `Measure`."""
        tallies = self._counts(counts)
        one_vs_rest = scores(tallies)
        samples: dict[Key, np.ndarray] = {
            (name,): sample
            for name, sample in self._overall(tallies, one_vs_rest).items()
        }
        if self._quadratic is not None:
            samples[("quadratic_kappa",)] = self._quadratic(counts)
        if not self._per_class:
            return samples
        for i, name in enumerate(self._names):
            for metric, score in PER_CLASS.items():
                samples["per_class", name, metric] = one_vs_rest[score][i]
        if self._task != "binary":
            samples |= self._averages(tallies, one_vs_rest)
        return samples

    def _overall(
        self, tallies: Tallies, one_vs_rest: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if self._task == "multilabel":
            right = tallies.n - tallies.true - tallies.predicted + 2 * tallies.both
            accuracy = ratio(right.sum(axis=0), tallies.n.sum(axis=0))
            means = {metric: one_vs_rest[metric].mean(axis=0) for metric in MEANS}
            return {"accuracy": accuracy} | means
        accuracy = tallies.both.sum(axis=0) / tallies.n[0]
        occurs = self._whole.true[:, 0] > 0
        # As scikit-learn has it: the mean over the classes that occur.
        balanced = one_vs_rest["sensitivity"][occurs].mean(axis=0)
        if occurs.sum() == 1:
            balanced = np.full_like(accuracy, np.nan)
        both = {"accuracy": accuracy, "balanced_accuracy": balanced}
        if self._task == "binary":
            return both | {metric: one_vs_rest[metric][1] for metric in BINARY}
        return both | {
            "f1": one_vs_rest["f1"].mean(axis=0),
            "mcc": mcc(tallies),
            "kappa": kappa(tallies),
        }

    def _averages(
        self, tallies: Tallies, one_vs_rest: dict[str, np.ndarray]
    ) -> dict[Key, np.ndarray]:
        summed = Tallies(*(part.sum(axis=0) for part in tallies))
        micro = scores(summed)
        samples: dict[Key, np.ndarray] = {}
        for metric, score in PER_CLASS.items():
            samples["averages", "macro", metric] = one_vs_rest[score].mean(axis=0)
            samples["averages", "micro", metric] = micro[score]
            samples["averages", "weighted", metric] = weighted(
                one_vs_rest[score], tallies.true
            )
        return samples

    def reason(self, key: Key) -> Undefined:
        """Return why a metric of the whole split is NaN."""
        metric = PER_CLASS.get(key[-1], key[-1])
        reasons = self._reasons(metric)
        if key[0] == "per_class":
            return reasons[self._index_of[key[1]]] or ONE_CLASS
        if self._task == "binary" and metric in BINARY:
            return reasons[1] or ONE_CLASS
        if self._task != "multilabel" and len(key) == 1 and metric != "f1":
            of_all = {"mcc": ONE_OUTCOME, "balanced_accuracy": ONE_CLASS}
            return of_all.get(metric, ALL_ALIKE)
        return of_classes(self._names, reasons)

    def _reasons(self, metric: str) -> list[Undefined | None]:
        """Return why the score of each class is NaN; None where it is not."""
        if metric not in self._reasons_of:
            self._reasons_of[metric] = self._find_reasons(metric)
        return self._reasons_of[metric]

    def _find_reasons(self, metric: str) -> list[Undefined | None]:
        values = scores(self._whole).get(metric)
        if values is None:
            return [None] * len(self._names)
        rows = zip(values, self._whole.true, self._whole.n, strict=True)
        return [
            why_undefined(metric, true[0], n[0]) if np.isnan(value[0]) else None
            for value, true, n in rows
        ]

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals by formula, see `class_intervals` and `Measure`."""
        tallies = self._counts.by_unit(units)
        by_class = class_intervals(tallies, units)
        intervals = self._means(tallies, units)
        if self._task == "multilabel":
            right = tallies.n - tallies.true - tallies.predicted + 2 * tallies.both
            hits, pairs = right.sum(axis=0), tallies.n.sum(axis=0)
            clustered = len(self._names) > 1 or units.cluster is not None
        else:
            hits, pairs = tallies.both.sum(axis=0), tallies.n[0]
            clustered = units.cluster is not None
        (accuracy,) = shares(hits[None], pairs[None], clustered=clustered)
        intervals[("accuracy",)] = accuracy.interval
        if self._task == "binary":
            intervals[("f1",)] = by_class[1]["f1"]
            intervals[("balanced_accuracy",)] = by_class[1]["balanced_accuracy"]
        elif self._task != "multilabel":
            intervals |= self._of_parts(tallies, accuracy.interval, units)
        for name, by_metric in zip(self._names, by_class, strict=True):
            for metric, score in PER_CLASS.items():
                intervals["per_class", name, metric] = by_metric[score]
        return intervals

    def _means(self, tallies: Tallies, units: Units) -> dict[Key, Interval | Undefined]:
        """Return the keys without a bootstrap interval, because a class is too rare.

        A rare class decides what is a mean over classes. The rest can be told as long
        as not nearly all images are of one class.
        """
        scarce = tallies.scarce(self._names, units)
        rare = next((reason for reason in scarce if reason is not None), None)
        one_sided = tallies.one_sided(self._names, units)
        means: list[Key] = [("averages", "macro", metric) for metric in PER_CLASS]
        weighted: list[Key] = [("averages", "weighted", metric) for metric in PER_CLASS]
        overall: list[Key] = [(name,) for name in AGREEMENT]
        if self._task == "multilabel":
            means += [*weighted, *((name,) for name in MEANS)]
        else:
            means.append(("f1",))
            overall += weighted
        reasons = dict.fromkeys(overall, one_sided) | dict.fromkeys(means, rare)
        return {key: reason for key, reason in reasons.items() if reason is not None}

    def _of_parts(
        self, tallies: Tallies, accuracy: Interval, units: Units
    ) -> dict[Key, Interval | Undefined]:
        """Compute intervals of means over classes of disjoint images."""
        clustered = units.cluster is not None
        recalls = shares(tallies.both, tallies.true, clustered=clustered)
        precisions = shares(tallies.both, tallies.predicted, clustered=clustered)
        occurring = [recall for recall in recalls if recall.trials > 0]
        intervals: dict[Key, Interval | Undefined] = {
            ("balanced_accuracy",): mean_interval(occurring),
            ("averages", "macro", "recall"): mean_interval(recalls),
            ("averages", "macro", "precision"): mean_interval(precisions),
            ("averages", "weighted", "recall"): accuracy,
        }
        for name in ONE_DECISION:
            intervals["averages", "micro", name] = accuracy
        return intervals


def weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average (k, resamples) over classes; those of weight 0 need no value."""
    products = np.where(weights > 0, weights * values, 0)
    return ratio(products.sum(axis=0), weights.sum(axis=0))


def of_classes(names: Sequence[str], reasons: Sequence[Undefined | None]) -> Undefined:
    """Return why a mean over classes is undefined, and which classes cause it."""
    first = next((reason for reason in reasons if reason is not None), ONE_CLASS)
    because = [
        repr(name)
        for name, reason in zip(names, reasons, strict=True)
        if reason == first
    ]
    if not because:
        return first
    more = f" and {len(because) - NAMED} more" if len(because) > NAMED else ""
    return Undefined(f"{first.reason}: {', '.join(because[:NAMED])}{more}")
