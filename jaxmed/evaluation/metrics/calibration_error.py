"""Calibration errors and reliability diagrams."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from jaxmed.errors import unknown
from jaxmed.evaluation.intervals.bootstrap import Units, units_of
from jaxmed.evaluation.intervals.estimate import FEW, Interval, Key, Measure, Undefined
from jaxmed.evaluation.intervals.proportions import Z, root_between, wilson
from jaxmed.evaluation.metrics.counts import ratio
from jaxmed.evaluation.metrics.probability_scores import NO_LABEL
from jaxmed.evaluation.predictions import Predictions

BINS = 15
# Of frequencies that a calibrated model would have.
DRAWS = 1000
QUANTILES = (0.025, 0.975)
# With so many bins noise hides the gaps: such intervals held the truth too seldom.
SEVERAL = Undefined("a mean over classes has no interval that covers")
CERTAIN = Undefined("every prediction is certain and right")


def equal_width_bins(confidence: np.ndarray) -> np.ndarray:
    """Put confidences in [0, 1] into the bins ((m-1)/M, m/M]: int, 0 to M - 1."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.digitize(confidence, edges, right=True)


def equal_mass_bins(confidence: np.ndarray) -> np.ndarray:
    """Put n confidences into M bins of about n / M each, equal ones together."""
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS)
    return np.digitize(confidence, edges, right=True)


class CalibrationError(Measure):
    """Expected calibration errors: |frequency - probability|, averaged over bins.

    "ece" is that of Guo et al. 2017, eq. 3, with bins of equal width. In a binary task
    the probability is that of the positive class, as in the reliability diagram: of the
    most probable class, probabilities that are all too low would be too little
    confidence above 0.5 and too much below, which cancel. In multilabel tasks it is
    that of each label, and the result the mean over labels. Else it is that of the most
    probable class, and the frequency is how often it is right. "ece_equal_mass" has
    bins that hold equally many images. "ace" is the adaptive calibration error of Nixon
    et al., "Measuring Calibration in Deep Learning", CVPR workshops 2019: bins of equal
    mass for the probability of each class, and the mean over classes.

    The absolute value turns noise into error. Over a bin of n images the frequency
    varies by sigma = sqrt(p (1 - p) / n), and the mean of |gap + noise| is that of a
    folded normal distribution. What is reported is the error at which the gaps, all
    scaled by one factor, have the mean that was seen (0 if noise alone has it); its
    interval holds the errors whose 95 % range has what was seen. For a calibrated model
    it begins at 0. Means over classes have none. The plain average is "plug_in", for
    comparing with others'.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        prefix: of the keys.
        suffix: added to the names of the metrics.
    """

    def __init__(
        self, predictions: Predictions, probs=None, prefix: Key = (), suffix: str = ""
    ):
        probs = predictions.probs if probs is None else probs
        self.images = len(predictions.ids)
        known, truth = predictions.known, predictions.truth
        top_class = every_class = probs, truth, known
        if predictions.task == "binary":
            # The gaps of the other class are the same.
            top_class = every_class = probs[:, 1:], truth[:, 1:], known[:, 1:]
        elif predictions.task != "multilabel":
            rows, best = np.arange(self.images), probs.argmax(axis=1)
            top_class = probs[rows, best, None], truth[rows, best, None], known[:, :1]
        errors = {
            "ece": (equal_width_bins, *top_class),
            "ece_equal_mass": (equal_mass_bins, *top_class),
            "ace": (equal_mass_bins, *every_class),
        }
        units = units_of(predictions)
        self._gaps = {
            (*prefix, f"{name}{suffix}"): _Gaps(*parts, units)
            for name, parts in errors.items()
        }

    def values(self) -> dict[Key, float | Undefined]:
        """Compute the errors of the split itself."""
        return {key: gaps.error() for key, gaps in self._gaps.items()}

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Return nothing: values and intervals are by formula."""
        return {}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals, see the class and `Measure`."""
        if units.size < FEW:
            few = Undefined(f"fewer than {FEW} {units.noun}")
            return dict.fromkeys(self._gaps, few)
        return {key: gaps.interval() for key, gaps in self._gaps.items()}

    def remarks(self, units: Units) -> dict[Key, dict[str, float]]:
        """Return the plain averages as "plug_in", see `Measure`."""
        return {
            key: {"plug_in": gaps.plug_in}
            for key, gaps in self._gaps.items()
            if not np.isnan(gaps.plug_in)
        }

    def reason(self, key: Key) -> Undefined:
        """Return why an error of the whole split is NaN."""
        return NO_LABEL


class _Gaps:
    """The gaps of all bins of all columns, and the noise in them.

    Attributes:
        plug_in: the mean over columns of the mean over bins of |gap|.
    """

    def __init__(self, bins_of: Callable, confidence, right, known, units: Units):
        columns = self._columns = confidence.shape[1]
        bins = np.zeros(confidence.shape, np.int64)
        for i in range(columns):
            rows = known[:, i]
            if rows.any():
                bins[rows, i] = bins_of(confidence[rows, i])
        images, of = np.nonzero(known)
        cell, cells = bins[images, of] + BINS * of, BINS * columns
        p, y = confidence[images, of], right[images, of]
        n, hits = np.bincount(cell, minlength=cells), np.bincount(cell, y, cells)
        gaps = np.abs(np.bincount(cell, y - p, cells))
        of_column = n.reshape(columns, BINS).sum(axis=1).repeat(BINS)
        mass = ratio(n, of_column) / columns
        used = (n > 0) | np.isnan(mass)
        n, self._mass = np.maximum(n[used], 1), mass[used]
        # Frequencies of 0 and 1 vary too: one image more counts, as was predicted.
        mean = np.bincount(cell, p, cells)[used] / n
        share = (hits[used] + mean) / (n + 1)
        alike = 1.0
        if units.cluster is not None:
            alike = _alike(y - p, cell, units.cluster[images], (cells, units.size))
        self._noise = np.sqrt(np.clip(share * (1 - share), 0, None) / n * alike)
        self._mean, self._trials = mean, np.maximum(np.round(n / alike), 1).astype(int)
        sizes = gaps[used] / n
        self.plug_in = float((self._mass * sizes).sum())
        # Gaps of a mean of 1, to be scaled by an error.
        total = self.plug_in
        if total == 0:
            sizes, total = self._noise, float((self._mass * self._noise).sum())
        self._gaps = sizes / total if total > 0 else None

    def _expected(self, error: float) -> tuple[float, float]:
        """Compute the mean and the standard deviation of the plug-in at an error."""
        if self._gaps is None:
            return 0.0, 0.0
        gaps, noise = error * self._gaps, self._noise
        away = ratio(gaps, noise)
        mean = noise * np.sqrt(2 / np.pi) * np.exp(-np.square(away) / 2)
        mean = np.where(noise > 0, mean + gaps * (1 - 2 * ndtr(-away)), gaps)
        variance = np.square(gaps) + np.square(noise) - np.square(mean)
        parts = np.square(self._mass) * np.clip(variance, 0, None)
        return float((self._mass * mean).sum()), float(parts.sum()) ** 0.5

    def error(self) -> float | Undefined:
        """Compute the error that has the plug-in as its mean."""
        if np.isnan(self.plug_in):
            return NO_LABEL
        if self._expected(0.0)[0] >= self.plug_in:
            return 0.0
        return root_between(
            lambda e: self._expected(e)[0] - self.plug_in, 0, self.plug_in
        )

    def _of_calibrated(self) -> np.ndarray:
        """Draw plug-ins of a model whose probabilities are right: (DRAWS,).

        Broecker and Smith, "Increasing the Reliability of Reliability Diagrams",
        Weather and Forecasting 2007, section 3: consistency resampling.
        """
        rng, shape = np.random.default_rng(0), (DRAWS, len(self._mean))
        hits = rng.binomial(self._trials, np.clip(self._mean, 0, 1), shape)
        return np.abs(hits / self._trials - self._mean) @ self._mass

    def interval(self) -> Interval | Undefined:
        """Compute the interval: errors for which the plug-in is not too extreme.

        How many deviations are too many is read off frequencies drawn of a model that
        is calibrated: with few images in a bin they are skewed.
        """
        value = self.error()
        if self._columns > 1:
            return SEVERAL
        if self._gaps is None or isinstance(value, Undefined):
            return CERTAIN
        mean, deviation = self._expected(0.0)
        low, seen, below, above = 0.0, self.plug_in, -Z, Z
        if deviation > 0:
            below, above = (
                np.quantile(self._of_calibrated(), QUANTILES) - mean
            ) / deviation
        # Of a large error the plug-in is normal.
        below = min(below, -Z)

        def beyond(error: float, deviations: float, seen: float) -> float:
            mean, deviation = self._expected(error)
            return mean + deviations * deviation - seen

        if beyond(0.0, above, seen) < 0:
            low = root_between(lambda e: beyond(e, above, seen), 0, value)
        # Less than noise alone has is luck.
        seen = max(seen, mean)
        widest = float(np.square(self._mass * self._noise).sum()) ** 0.5
        most = seen - below * widest + value
        high = root_between(lambda e: beyond(e, below, seen), value, most)
        return Interval(low, min(high, 1.0), "inversion")


def _alike(residuals, cell, unit, shape) -> float:
    """Compute the design effect: how much larger variances are in clusters.

    It is at least 1, and at most as if all images of a unit in a bin were one (Kish,
    "Survey Sampling", 1965, section 5.4).
    """
    sums = sparse.coo_array((residuals, (cell, unit)), shape).tocsr()
    sizes = sparse.coo_array((np.ones(len(unit)), (cell, unit)), shape).tocsr()
    alone = float(np.square(residuals).sum())
    if alone == 0:
        return 1.0
    most = float(np.square(sizes.data).sum() / sizes.data.sum())
    return float(np.clip(np.square(sums.data).sum() / alone, 1, most))


BINNINGS = {"equal_width": equal_width_bins, "equal_mass": equal_mass_bins}


def reliability(
    predictions: Predictions, probs: np.ndarray | None = None, bins: str = "equal_width"
) -> list[dict[str, Any]]:
    """Compare predicted probabilities with observed frequencies in 15 bins.

    In binary tasks the probability is that of the positive class; in multilabel tasks
    that of each known label, all in one diagram; otherwise that of the most probable
    class, and observed is how often it is right.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        bins: "equal_width" or "equal_mass".

    Returns:
        By rising probability, for each bin that is not empty: "n", how many
        probabilities are in it; "predicted", their mean; "observed", a share as
        {"value", "ci_low", "ci_high"} with Wilson's 95 % interval.

    Raises:
        InputError: unknown bins.
    """
    if bins not in BINNINGS:
        raise unknown("bins", bins, BINNINGS)
    probs = predictions.probs if probs is None else probs
    if predictions.task == "binary":
        predicted, right = probs[:, 1], predictions.truth[:, 1]
    elif predictions.task == "multilabel":
        predicted = probs[predictions.known]
        right = predictions.truth[predictions.known]
    else:
        predicted = probs.max(axis=1)
        right = probs.argmax(axis=1) == predictions.labels
    if not len(predicted):
        return []
    bin_of = BINNINGS[bins](predicted)
    n = np.bincount(bin_of)
    sums = np.bincount(bin_of, predicted)
    hits = np.bincount(bin_of, right).round()
    low, high = wilson(hits, n)
    return [
        {
            "n": int(n[i]),
            "predicted": float(sums[i] / n[i]),
            "observed": {
                "value": float(hits[i] / n[i]),
                "ci_low": float(low[i]),
                "ci_high": float(high[i]),
            },
        }
        for i in np.flatnonzero(n)
    ]
