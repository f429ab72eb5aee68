"""AUROC and AUPRC, for thousands of resamples at once."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals.auc import (
    Spread,
    area,
    area_interval,
    auprc_interval,
    logit_interval,
    mean_area_interval,
    root_of_squares,
)
from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import SAME, Interval, Key, Measure, Undefined
from jaxmed.evaluation.metrics.classification import MANY, of_classes, weighted
from jaxmed.evaluation.metrics.counts import ALL_IMAGES, NO_IMAGE, ONE_CLASS
from jaxmed.evaluation.metrics.operating_points import OperatingPoints
from jaxmed.evaluation.predictions import Predictions

# Of fewer positives an AUPRC comes with a note.
RARE = 30
UNSTABLE = "an AUPRC of so few is unstable, and higher on average than that of more"


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
        """Compute the AUROC of resamples, NaN for those of one class.

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
        """Return truth, scores and images of one class, where it is known."""
        images = np.flatnonzero(self._known[:, i])
        return self._labels[images, i], self._probs[images, i], images

    def _rankings(self, truth: np.ndarray, scores: np.ndarray, images: np.ndarray):
        points = OperatingPoints(truth, scores, images, self.images)
        return RankSum(truth, scores, images), points.average_precision

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Compute the metrics of resamples, see `Measure`."""
        rankings = self._each
        if rankings is None:
            # One after the other: all at once would fill gigabytes.
            indices = range(len(self._names))
            rankings = (self._rankings(*self._pairs(i)) for i in indices)
        areas = [
            (rank_sum(counts), precision(counts)) for rank_sum, precision in rankings
        ]
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
            reason = NO_IMAGE if not truth.any() else ALL_IMAGES
            both = truth.any() and not truth.all()
            reasons.append(None if both else reason)
        return reasons

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}

    def reason(self, key: Key) -> Undefined:
        """Return why a metric of the whole split is NaN."""
        reasons = self._reasons
        if key[0] == "per_class":
            return reasons[self._index_of[key[1]]] or ONE_CLASS
        if self._binary:
            return ONE_CLASS
        # With one class only, every class is either all images or none.
        alone = len(reasons) > 1 and ALL_IMAGES in reasons and None not in reasons
        return ONE_CLASS if alone else of_classes(self._names, reasons)

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals, all on the logit, see `area_intervals`.

        AUROC's are by DeLong's variance, of a mean over classes too; AUPRC's, and those
        of other averages, by the bootstrap's.
        """
        values = {k: v for k, v in self.values().items() if isinstance(v, float)}
        areas = {
            name: self._of_class(i, units, values, samples)
            for i, name in enumerate(self._names)
            if ("per_class", name, "auroc") in values
        }
        of_classes: dict[Key, Interval] = {}
        for name, class_areas in areas.items():
            of_classes["per_class", name, "auroc"] = class_areas.auroc
            of_classes["per_class", name, "auprc"] = class_areas.auprc
        intervals: dict[Key, Interval | Undefined] = {**of_classes}
        if self._binary:
            positive = areas.get(self._names[1])
            if positive is not None:
                intervals[("auroc",)] = positive.auroc
                intervals[("auprc",)] = positive.auprc
            return intervals
        for key, value in values.items():
            if len(key) == 1 or "macro" in key:
                if len(areas) < len(self._names):
                    # Precision is defined without negatives too, and always 1.
                    intervals[key] = ALL_IMAGES
                    continue
                spread = self._of_mean(key, areas.values(), units, samples)
                names = [("per_class", name, key[-1]) for name in areas]
                parts = [(values[k], of_classes[k]) for k in names]
                few = any(class_areas.few for class_areas in areas.values())
                intervals[key] = mean_area_interval(value, spread, parts, few=few)
            elif "averages" in key:
                spread = Spread.of(value, samples[key], units)
                if key[-1] == "auroc":
                    spread = spread._replace(bias=0.0)
                intervals[key] = logit_interval(value, spread) or SAME
        return intervals

    def _of_class(self, i: int, units: Units, values, samples) -> "_ClassAreas":
        truth, scores, images = self._pairs(i)
        within = units.of(images)
        statistics = area(truth, scores, within)
        influence = np.zeros(self.images)
        influence[images] = statistics.influence
        key = "per_class", self._names[i], "auprc"
        spread = Spread.of(values[key], samples[key], units)
        if units.cluster is None:
            points = OperatingPoints(truth, scores, images, self.images)
            spread = spread._replace(bias=points.jackknife_bias())
        auprc = auprc_interval(
            values[key], spread, statistics.positives, few=statistics.few
        )
        auroc = area_interval(statistics, within)
        return _ClassAreas(auroc, auprc, influence, spread.bias, statistics.few)

    def _of_mean(self, key: Key, areas, units: Units, samples) -> Spread:
        if key[-1] == "auroc":
            influence = np.mean(
                [class_areas.influence for class_areas in areas], axis=0
            )
            return Spread(root_of_squares(units.sums(influence[:, None])), 0.0)
        bias = float(np.mean([class_areas.bias for class_areas in areas]))
        return Spread.of(0.0, samples[key], units)._replace(bias=bias)

    def remarks(self, units: Units) -> dict[Key, dict[str, str]]:
        """Return a note for every AUPRC of few positives, see `Measure`."""
        having = units.having(self._labels)
        rare = [n for n, m in zip(self._names, having, strict=True) if 0 < m < RARE]
        remarks: dict[Key, dict[str, str]] = {
            ("per_class", name, "auprc"): _note(repr(name), units) for name in rare
        }
        if self._binary:
            alone = remarks.get(("per_class", self._names[1], "auprc"))
            return remarks if alone is None else remarks | {("auprc",): alone}
        if rare:
            of_mean = _note(f"{len(rare)} of {len(self._names)} classes", units)
            for key in (("auprc",), ("averages", "macro", "auprc")):
                remarks[key] = of_mean
        return remarks


def _note(of: str, units: Units) -> dict[str, str]:
    return {"note": f"fewer than {RARE} {units.noun} of {of}: {UNSTABLE}"}


class _ClassAreas(NamedTuple):
    """What the intervals of one class, and of means over classes, are made of."""

    auroc: Interval
    auprc: Interval
    influence: np.ndarray
    bias: float
    few: bool
