"""Operating points: decisions at thresholds, ROC and precision-recall curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units, units_of
from jaxmed.evaluation.intervals.estimate import (
    FEW,
    Interval,
    Key,
    Measure,
    Undefined,
    levels,
)
from jaxmed.evaluation.intervals.proportions import class_intervals
from jaxmed.evaluation.metrics.counts import (
    ClassCounts,
    ratio,
    scores,
    why_undefined,
)
from jaxmed.evaluation.predictions import Predictions


class OperatingPoints:
    """True and false positives of `score >= threshold`, threshold by threshold.

    The thresholds are the scores of positives: one in between only adds false
    positives. Every score is put between two of them once, so that a resample costs
    one pass over its counts.

    Args:
        truth: bool (p,), the positives.
        scores: float (p,), higher for positives.
        images: int (p,), the image of each score, of n.
        n: images that are drawn from.

    Attributes:
        thresholds: float (m,), falling.
    """

    def __init__(self, truth: np.ndarray, scores: np.ndarray, images: np.ndarray, n):
        self.thresholds = np.unique(scores[truth])[::-1]
        m = len(self.thresholds)
        # The first threshold that the score reaches; m for none.
        reached = np.searchsorted(-self.thresholds, -scores)
        rows = np.where(truth, reached, m + reached)
        self._images = n
        self._steps = sparse.csr_array(
            (np.ones(len(rows)), (rows, images)), shape=(2 * m + 1, n)
        )

    def __call__(
        self, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Count in resamples.

        Args:
            counts: float64 (n, resamples).

        Returns:
            True positives and false positives at each threshold, (m, resamples); all
            positives and all negatives, (resamples,).
        """
        steps = np.asarray(self._steps @ counts)
        m = len(self.thresholds)
        true, false = steps[:m].cumsum(axis=0), steps[m:].cumsum(axis=0)
        positives = true[-1] if m else np.zeros(counts.shape[1])
        return true, false[:-1], positives, false[-1]

    def average_precision(self, counts: np.ndarray) -> np.ndarray:
        """Compute the area under the precision-recall curve: (resamples,).

        It is scikit-learn's `average_precision_score`: precision at each threshold,
        weighted by what it adds to recall, without interpolation. NaN where there is
        no positive.
        """
        true, false, positives, _ = self(counts)
        gained = np.diff(true, axis=0, prepend=0)
        predicted = true + false
        # Where nothing is found yet, nothing is gained.
        predicted[predicted == 0] = 1
        return ratio((gained * true / predicted).sum(axis=0), positives)

    def jackknife_bias(self) -> float:
        """Compute the bias of the average precision of all images.

        A positive counts itself among those that are found at its own threshold. Its
        precision there is the higher for it, the fewer others there are. Quenouille's
        jackknife (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, eq.
        11.8) leaves out each image in turn; all of that is one sum over thresholds.

        Returns:
            0 with less than two positives.
        """
        true, false, (positives,), (negatives,) = self(np.ones((self._images, 1)))
        if positives < 2:
            return 0.0
        true, false = true[:, 0], false[:, 0]
        gained, n = np.diff(true, prepend=0), positives + negatives
        precision = true / (true + false)
        value = (gained * precision).sum() / positives
        # Without a negative: one that is above the threshold, or one that is not.
        fewer = false * ratio(true, true + false - 1)
        fewer = (negatives - false) * precision + np.where(false > 0, fewer, 0)
        # Without another positive, the same way.
        others = (true - 1) * np.nan_to_num(ratio(true - 1, true - 1 + false))
        others = (positives - true) * precision + others
        left_out = (gained * fewer).sum() / positives
        left_out += (gained * others).sum() / (positives - 1)
        return float((n - 1) * (left_out / n - value))


METRICS = (
    *("accuracy", "sensitivity", "specificity", "ppv", "npv", "lr_positive"),
    *("lr_negative", "f1", "mcc", "kappa", "youden_j"),
)


class ThresholdDecisions(Measure):
    """The metrics of `prob >= threshold`.

    Keys are ("at_threshold", metric) in binary tasks, else ("at_threshold", class,
    metric).

    Args:
        predictions: n images.
        thresholds: see `choose_thresholds`.
        prevalence: share of positives, in (0, 1), to tell the predictive values at;
            None to tell them at that of the images only.
    """

    def __init__(
        self,
        predictions: Predictions,
        thresholds: dict[str, float | Undefined],
        prevalence: float | None = None,
    ):
        binary = predictions.task == "binary"
        self.images = len(predictions.ids)
        self._prevalence = prevalence
        self._thresholds = list(thresholds.values())
        self._names = list(thresholds)
        self._prefixes: list[Key] = [
            ("at_threshold",) if binary else ("at_threshold", name)
            for name in thresholds
        ]
        self._row_of = {prefix: i for i, prefix in enumerate(self._prefixes)}
        column_of = {name: i for i, name in enumerate(predictions.class_names)}
        columns = [column_of[name] for name in thresholds]
        cuts = [np.inf if isinstance(t, Undefined) else t for t in self._thresholds]
        self._counts = ClassCounts(
            predictions.truth[:, columns],
            predictions.probs[:, columns] >= np.array(cuts),
            predictions.known[:, columns],
        )
        self._whole = self._counts(np.ones((self.images, 1)))

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Compute the metrics of resamples, see `Measure`."""
        one_vs_rest = scores(self._counts(counts))
        samples = {metric: one_vs_rest[metric] for metric in METRICS}
        if self._prevalence is not None:
            ppv, npv = predictive_values(
                one_vs_rest["sensitivity"], one_vs_rest["specificity"], self._prevalence
            )
            samples |= {"ppv_at_prevalence": ppv, "npv_at_prevalence": npv}
        for i, threshold in enumerate(self._thresholds):
            if isinstance(threshold, Undefined):
                for sample in samples.values():
                    sample[i] = np.nan
        return {
            (*prefix, name): sample[i]
            for i, prefix in enumerate(self._prefixes)
            for name, sample in samples.items()
        }

    def reason(self, key: Key) -> Undefined:
        """Return why a metric of the whole split is NaN."""
        *prefix, metric = key
        i = self._row_of[tuple(prefix)]
        threshold = self._thresholds[i]
        if isinstance(threshold, Undefined):
            return Undefined(f"no threshold, as in val: {threshold.reason}")
        true, n = self._whole.true[i, 0], self._whole.n[i, 0]
        if metric.endswith("_at_prevalence") and 0 < true < n:
            metric = metric.removesuffix("_at_prevalence")
        return why_undefined(metric, true, n)

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals by formula, see `class_intervals` and `Measure`."""
        tallies = self._counts.by_unit(units)
        by_class = class_intervals(tallies, units, self._prevalence)
        intervals: dict[Key, Interval | Undefined] = {}
        rows = zip(
            self._prefixes, by_class, tallies.scarce(self._names, units), strict=True
        )
        for prefix, by_metric, scarce in rows:
            intervals |= {
                (*prefix, name): interval for name, interval in by_metric.items()
            }
            if scarce:
                intervals |= {(*prefix, name): scarce for name in ("mcc", "kappa")}
        return intervals


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute PPV and NPV where another share is positive, by Bayes' theorem.

    Altman and Bland, "Diagnostic tests 2: predictive values", BMJ 1994.

    Args:
        sensitivity, specificity: in [0, 1], of one shape; they are taken to be the
            same at any prevalence.
        prevalence: share of positives, in (0, 1).

    Returns:
        NaN where nothing, or everything, is said to be positive.

    Examples:
        >>> ppv, npv = predictive_values(np.array(0.9), np.array(0.9), prevalence=0.01)
        >>> round(float(ppv), 3), round(float(npv), 3)
        (0.083, 0.999)
    """
    detected = sensitivity * prevalence
    cleared = specificity * (1 - prevalence)
    ppv = ratio(detected, detected + (1 - specificity) * (1 - prevalence))
    npv = ratio(cleared, cleared + (1 - sensitivity) * prevalence)
    return ppv, npv


# At recall 0 nothing is found, and there is no precision.
GRID = np.arange(1, 201) / 200
# Fewer resamples than numbers need: a picture shows no third digit.
RESAMPLES = 500
# Rates closer than this are the same.
TIE = 1e-12


class Band(NamedTuple):
    """A curve and its 95 % interval at each point of a grid, all float (200,).

    Attributes:
        at: from 0.005 to 1; the false positive rate, or the recall.
        value: the curve of the split itself: sensitivity, or precision.
        low, high: ends of the interval at that point, which is not one of the curve as
            a whole.
    """

    at: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_band(
    predictions: Predictions,
    classes: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band | None:
    """Compute sensitivity where a given rate of false positives is allowed.

    The bootstrap is that of all intervals; the curves of resamples are averaged at
    equal false positive rates (Fawcett, "An introduction to ROC analysis", Pattern
    Recognition Letters 2006, section 8.1).

    Args:
        predictions: of any task.
        classes: indices; each is told from the rest, and several are averaged.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        None where there are fewer than `FEW` images (patients, where they are known)
        of one of the classes, or of its rest.
    """
    return _band(predictions, classes, _sensitivity, resamples, seed)


def precision_recall_band(
    predictions: Predictions,
    classes: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band | None:
    """Compute precision at the highest threshold that reaches a given recall.

    Arguments and result are those of `roc_band`.
    """
    return _band(predictions, classes, _precision, resamples, seed)


def _band(predictions, classes, curve: Callable, resamples, seed) -> Band | None:
    n, points, units = len(predictions.ids), [], units_of(predictions)
    for i in classes:
        images = np.flatnonzero(predictions.known[:, i])
        truth = predictions.truth[images, i]
        both = np.stack([truth, ~truth], axis=1)
        if units.of(images).having(both).min() < FEW:
            return None
        scores = predictions.probs[images, i]
        points.append(OperatingPoints(truth, scores, images, n))

    def curves(counts: np.ndarray) -> np.ndarray:
        """Compute the mean over classes: (grid, resamples)."""
        return np.mean(
            [curve(*class_points(counts)) for class_points in points], axis=0
        )

    drawn = Bootstrap(resamples=resamples, seed=seed).counts(units)
    samples = np.concatenate([curves(counts) for counts in drawn], axis=1)
    # A resample may lack a class.
    samples = samples[:, ~np.isnan(samples).any(axis=0)]
    if not samples.size:
        return None
    value = curves(np.ones((n, 1)))[:, 0]
    return Band(GRID, value, *np.quantile(samples, levels(units.size), axis=1))


def _sensitivity(true, false, positives, negatives) -> np.ndarray:
    rates, alarms = ratio(true, positives), ratio(false, negatives)
    rates = np.concatenate([np.zeros_like(rates[:1]), rates])
    columns = []
    for rate, alarm in zip(rates.T, alarms.T, strict=True):
        allowed = np.searchsorted(alarm, GRID + TIE, side="right")
        columns.append(rate[allowed])
    return _defined(columns, positives, negatives)


def _precision(true, false, positives, negatives) -> np.ndarray:
    rates, precisions = ratio(true, positives), ratio(true, true + false)
    last = len(rates) - 1
    columns = []
    for rate, precision in zip(rates.T, precisions.T, strict=True):
        first = np.searchsorted(rate, GRID - TIE, side="left")
        columns.append(precision[np.minimum(first, last)])
    return _defined(columns, positives, negatives)


def _defined(columns, positives, negatives) -> np.ndarray:
    curves = np.stack(columns, axis=1)
    curves[:, (positives == 0) | (negatives == 0)] = np.nan
    return curves
