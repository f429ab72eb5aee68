"""AUROC and AUPRC, for thousands of resamples at once."""

from functools import cached_property

import numpy as np
from scipy import sparse

from jaxmed.evaluation.delong import delong_interval
from jaxmed.evaluation.intervals import Interval, Key, Measure, Undefined
from jaxmed.evaluation.metrics import MANY, of_classes, weighted
from jaxmed.evaluation.operating import OperatingPoints
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.proportions import ALL_IMAGES, NO_IMAGE, ONE_CLASS


class RankSum:
    """AUROC of a score, for resamples: the Mann-Whitney statistic, ties counting half.

    The scores are sorted once. Let B be the positives and A the negatives or the
    other way round, A the fewer. For every score of B, the number of drawn scores of
    A that are lower is a difference of cumulative counts, so that a resample costs one
    pass over the counts and no sorting. All sums are whole or half numbers far below
    2**53, so they are exact.

    Args:
        truth: bool (p,), the positives.
        scores: float (p,), higher for positives.
        images: int (p,), the image of each score; by default the score's own index.
    """

    def __init__(self, truth: np.ndarray, scores: np.ndarray, images=None):
        few, many = np.flatnonzero(truth), np.flatnonzero(~truth)
        self._few_are_positive = len(few) <= len(many)
        if not self._few_are_positive:
            few, many = many, few
        few, many = few[np.argsort(scores[few])], many[np.argsort(scores[many])]
        in_order, values = scores[few], scores[many]
        self._below = np.searchsorted(in_order, values, side="left")
        self._below_or_tied = np.searchsorted(in_order, values, side="right")
        self._ties = bool((self._below != self._below_or_tied).any())
        self._few = few if images is None else images[few]
        self._many = many if images is None else images[many]

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Computes the AUROC of resamples, NaN for those of one class.

        Args:
            counts: float64 (n, resamples).

        Returns:
            float64 (resamples,).
        """
        cumulative = np.zeros((len(self._few) + 1, counts.shape[1]))
        np.cumsum(counts[self._few], axis=0, out=cumulative[1:])
        drawn = counts[self._many]
        below = cumulative[self._below]
        if self._ties:
            below = (below + cumulative[self._below_or_tied]) / 2
        # Pairs whose score of the larger side is the higher.
        higher = np.einsum("ij,ij->j", drawn, below)
        pairs = cumulative[-1] * drawn.sum(axis=0)
        if self._few_are_positive:
            higher = pairs - higher
        defined = pairs > 0
        nan = np.full(len(pairs), np.nan)
        return np.divide(higher, pairs, out=nan, where=defined)


class Ranking(Measure):
    """AUROC and AUPRC: of the positive class in binary tasks, else means over classes.

    Each class is ranked against the rest by its own probability (one-vs-rest), as
    scikit-learn's `roc_auc_score(multi_class="ovr")` and `average_precision_score` do
    with average "macro", "micro" (all pairs of image and class in one ranking) and
    "weighted" (by images of the class). AUPRC is the average precision. With more than
    `MANY` classes there is no "micro".
    """

    def __init__(self, predictions: Predictions):
        self._names = predictions.class_names
        self._binary = predictions.task == "binary"
        self.images = len(predictions.ids)
        self._known, self._labels = predictions.known, predictions.truth
        self._probs = predictions.probs
        self._truth = sparse.csr_array(self._labels.T).astype(np.float64)
        self._each, self._pooled = None, None
        if len(self._names) > MANY:
            return
        self._each = [self._rankings(*self._pairs(i)) for i in range(len(self._names))]
        if not self._binary:
            images, columns = np.nonzero(self._known)
            at = images, columns
            self._pooled = self._rankings(self._labels[at], self._probs[at], images)

    def _pairs(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns truth, scores and images of one class, where it is known."""
        images = np.flatnonzero(self._known[:, i])
        return self._labels[images, i], self._probs[images, i], images

    def _rankings(self, truth: np.ndarray, scores: np.ndarray, images: np.ndarray):
        points = OperatingPoints(truth, scores, images, self.images)
        return RankSum(truth, scores, images), points.average_precision

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        each = self._each
        if each is None:
            # One after the other: all at once would fill gigabytes.
            indices = range(len(self._names))
            each = (self._rankings(*self._pairs(i)) for i in indices)
        areas = [(rank_sum(counts), precision(counts)) for rank_sum, precision in each]
        support = np.asarray(self._truth @ counts)
        samples: dict[Key, np.ndarray] = {}
        for m, metric in enumerate(("auroc", "auprc")):
            per_class = np.stack([area[m] for area in areas])
            macro = per_class.mean(axis=0)
            samples[(metric,)] = per_class[1] if self._binary else macro
            for name, sample in zip(self._names, per_class, strict=True):
                samples["per_class", name, metric] = sample
            if not self._binary:
                samples["averages", "macro", metric] = macro
                samples["averages", "weighted", metric] = weighted(per_class, support)
            if self._pooled is not None:
                samples["averages", "micro", metric] = self._pooled[m](counts)
        return samples

    @cached_property
    def _reasons(self) -> list[Undefined | None]:
        reasons: list[Undefined | None] = []
        for i in range(len(self._names)):
            truth, _, _ = self._pairs(i)
            one = NO_IMAGE if not truth.any() else ALL_IMAGES
            both = truth.any() and not truth.all()
            reasons.append(None if both else one)
        return reasons

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}

    def reason(self, key: Key) -> Undefined:
        """Says why a metric of the split itself is NaN."""
        reasons = self._reasons
        if key[0] == "per_class":
            return reasons[self._places[key[1]]] or ONE_CLASS
        if self._binary:
            return ONE_CLASS
        # With one class only, every class is either all images or none.
        alone = len(reasons) > 1 and ALL_IMAGES in reasons and None not in reasons
        return ONE_CLASS if alone else of_classes(self._names, reasons)

    def by_formula(self) -> dict[Key, dict[str, Interval | None]]:
        """Computes DeLong's intervals of AUROC."""
        intervals: dict[Key, dict[str, Interval | None]] = {}
        for i, name in enumerate(self._names):
            truth, scores, _ = self._pairs(i)
            found = {"delong": delong_interval(truth, scores)}
            intervals["per_class", name, "auroc"] = found
        if self._binary:
            positive = "per_class", self._names[1], "auroc"
            intervals[("auroc",)] = intervals[positive]
        return intervals
