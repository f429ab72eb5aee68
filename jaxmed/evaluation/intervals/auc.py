"""Areas under the ROC and the precision-recall curve: intervals, and DeLong's test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import FEW, Interval, student
from jaxmed.evaluation.intervals.proportions import Z, mover, root_between, wilson

# Of a variance: less comes from adding up in another order. One image of 100,000 that
# changes places with the next makes 1e-21.
ROUNDING = 1e-26


def placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the placement values of positives and of negatives.

    That of a positive is the share of negatives with a lower score, ties counting
    half; that of a negative the share of positives with a higher one. Sorting makes it
    O(n log n), as in Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE
    Signal Processing Letters 2014.

    Args:
        truth: bool (n,), with both kinds.
        scores: float (n,), higher for positives.

    Returns:
        float64 (positives,) and (negatives,), in the order of the scores given. The
        mean of either is the AUROC.
    """
    positives, negatives = scores[truth], scores[~truth]
    return _share_below(positives, negatives), 1 - _share_below(negatives, positives)


def _share_below(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
    references = np.sort(references)
    below = np.searchsorted(references, scores, side="left")
    below_or_tied = np.searchsorted(references, scores, side="right")
    return (below + below_or_tied) / (2 * len(references))


def auroc_covariance(
    truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the AUROCs of r models on the same images, and their covariance.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 1988, eq. 5.

    Args:
        truth: bool (n,), with at least two of both kinds.
        scores: float (r, n).

    Returns:
        float64 (r,) and (r, r).
    """
    pairs = [placements(truth, model_scores) for model_scores in scores]
    of_positives = np.stack([positives for positives, _ in pairs])
    of_negatives = np.stack([negatives for _, negatives in pairs])
    covariance = np.cov(of_positives) / of_positives.shape[1]
    covariance = covariance + np.cov(of_negatives) / of_negatives.shape[1]
    return of_positives.mean(axis=1), np.atleast_2d(covariance)


class DelongTest(NamedTuple):
    """Whether a difference between AUROCs of the same images is 0.

    Attributes:
        interval: 95 %, of the difference, within [-1, 1].
        error: standard error of the difference.
        p: two-sided.
    """

    interval: tuple[float, float]
    error: float
    p: float


def delong_test(
    truth: np.ndarray, a: np.ndarray, b: np.ndarray, units: Units | None = None
) -> DelongTest | None:
    """Test whether two arms' mean AUROCs on the same images are equal.

    DeLong et al. 1988, eq. 7 and 8, for the contrast that takes the mean over the
    models of `b` from that over those of `a`. Its variance is that of the contrast of
    placement values, which is the same as that from the covariance matrix. Where
    patients have several images, placement values are summed over each patient, and
    the covariance of a patient's positive and negative images counts too: Obuchowski,
    "Nonparametric analysis of clustered ROC curve data", Biometrics 1997.

    Args:
        truth: bool (n,).
        a: float (r, n), the scores of r models, such as seeds.
        b: float (s, n).
        units: of these n images; None if each is its own.

    Returns:
        None where there are fewer than two units with positives, or with negatives, or
        where the variance of a difference that is not 0 is estimated as 0.

    Examples:
        >>> truth = np.arange(20) % 2 == 1
        >>> rng = np.random.default_rng(0)
        >>> a = (truth + rng.normal(size=20))[None]
        >>> b = (truth + 3 * rng.normal(size=20))[None]
        >>> test = delong_test(truth, a, b)
        >>> round(test.p, 3)
        0.538
    """
    units = units or Units(len(truth))
    having = units.having(np.stack([truth, ~truth], axis=1))
    if having.min() < 2:
        return None
    difference, sums, variance = 0.0, [], 0.0
    placed = zip(_mean(truth, a), _mean(truth, b), strict=True)
    for members, m, (x, y) in zip((truth, ~truth), having, placed, strict=True):
        contrast = x - y
        difference = float(contrast.mean())
        centered = np.zeros((len(truth), 1))
        centered[members, 0] = (contrast - difference) / len(contrast)
        sums.append(units.sums(centered)[:, 0])
        variance += float(np.square(sums[-1]).sum()) * m / (m - 1)
    # Of a unit's positives and negatives; 0 where each image is its own.
    variance += 2 * float((sums[0] * sums[1]).sum()) * units.size / (units.size - 1)
    if variance < ROUNDING:
        equal = abs(difference) < ROUNDING**0.5
        return DelongTest((0.0, 0.0), 0.0, 1.0) if equal else None
    error = variance**0.5
    half = Z * error
    ends = max(difference - half, -1.0), min(difference + half, 1.0)
    return DelongTest(ends, error, 2 * float(ndtr(-abs(difference) / error)))


def _mean(truth: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Average the placements of positives and of negatives over models."""
    pairs = [placements(truth, model_scores) for model_scores in scores]
    return [np.mean(parts, axis=0) for parts in zip(*pairs, strict=True)]


class Area(NamedTuple):
    """An AUROC, and how its images move it.

    Attributes:
        value: in [0, 1].
        influence: float64 (n,), of each image: by how much it moves the AUROC. The sum
            over images is 0, the sum of squares DeLong's variance.
        positives, negatives: units with at least one such image.
        freedom: degrees of freedom of the variance, by Satterthwaite's formula.
    """

    value: float
    influence: np.ndarray
    positives: int
    negatives: int
    freedom: float

    @property
    def few(self) -> bool:
        """Return whether too few units make the variance unreliable."""
        return min(self.positives, self.negatives) < FEW


def area(truth: np.ndarray, scores: np.ndarray, units: Units) -> Area:
    """Compute an AUROC and the influence of images.

    Args:
        truth: bool (n,), with both kinds.
        scores: float (n,), higher for positives.
        units: of these n images.
    """
    influence = np.empty(len(truth))
    value, counts, variances = 0.0, [], []
    for members, placed in zip((truth, ~truth), placements(truth, scores), strict=True):
        m = int(units.having(members[:, None])[0])
        value = float(placed.mean())
        # What DeLong's variance, or that of whole units, is divided by is m - 1.
        scale = (m / max(m - 1, 1)) ** 0.5 / len(placed)
        influence[members] = (placed - value) * scale
        sums = units.of(np.flatnonzero(members)).sums(influence[members, None])
        variances.append(float(np.square(sums).sum()))
        counts.append(m)
    parts = (v * v / max(m - 1, 1) for v, m in zip(variances, counts, strict=True))
    freedom = sum(variances) ** 2 / max(sum(parts), ROUNDING**2)
    positives, negatives = counts
    return Area(value, influence, positives, negatives, freedom)


def area_interval(auroc: Area, units: Units) -> Interval:
    """Compute the 95 % interval of an AUROC.

    DeLong's variance, summed over units where images are clustered (Obuchowski,
    "Nonparametric analysis of clustered ROC curve data", Biometrics 1997), on the
    logit, where the interval stays within [0, 1] and covers better (Pepe, "The
    Statistical Evaluation of Medical Tests", 2003, section 5.2.3). With fewer than
    `FEW` units of a kind, and where the classes do not overlap, that variance says
    nothing: the interval is then Newcombe's.
    """
    error = root_of_squares(units.sums(auroc.influence[:, None]))
    spread = Spread(error, 0.0, auroc.freedom)
    interval = logit_interval(auroc.value, spread, "logit_delong")
    if auroc.few or interval is None:
        return newcombe(auroc.value, auroc.positives, auroc.negatives)
    return interval


def newcombe(value: float, positives: float, negatives: float) -> Interval:
    """Compute a 95 % interval of an AUROC from the class sizes alone.

    Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", Statistics in Medicine 2006, method 5: the areas from which the
    one that was seen is 1.96 standard errors away, by Hanley and McNeil's variance with
    the mean of both numbers. It holds more than one point also at 0 and 1.
    """
    m, n = positives, negatives
    many = (m + n) / 2 - 1

    def away(area: float) -> float:
        spread = 1 + many * ((1 - area) / (2 - area) + area / (1 + area))
        error = (area * (1 - area) * spread / (m * n)) ** 0.5
        return abs(value - area) - Z * error

    # At 0 and 1 themselves there is no variance, and nothing is away.
    ends = min(value, 1 - ROUNDING**0.5), max(value, ROUNDING**0.5)
    low = 0.0 if value == 0 else root_between(lambda area: -away(area), 0, ends[0])
    high = 1.0 if value == 1 else root_between(away, ends[1], 1)
    return Interval(low, high, "newcombe")


class Spread(NamedTuple):
    """How an estimate varies around what it estimates.

    Attributes:
        error: its standard error.
        bias: by how much it is too high on average.
        freedom: degrees of freedom of the standard error.
    """

    error: float
    bias: float
    freedom: float = np.inf

    @classmethod
    def of(cls, value: float, samples: np.ndarray, units: Units) -> "Spread":
        """Estimate both from resamples, float64 (resamples,); NaN are left out."""
        defined = samples[~np.isnan(samples)]
        if len(defined) < 2:
            return cls(0.0, 0.0)
        scale = (units.size / max(units.size - 1, 1)) ** 0.5
        return cls(float(defined.std()) * scale, float(defined.mean() - value))


def logit_interval(
    value: float, spread: Spread, method: str = "logit"
) -> Interval | None:
    """Compute a 95 % interval that is symmetric on the logit, by the delta method.

    It is around the value less its bias, and holds the value.

    Returns:
        None where the value is 0 or 1, or does not vary: there is no such interval.
    """
    if not 0 < value < 1 or spread.error < ROUNDING**0.5:
        return None
    # Less than all that is between the value and either bound.
    center = float(np.clip(value - spread.bias, value / 2, (1 + value) / 2))
    odds = center / (1 - center)
    error = spread.error / (center * (1 - center))
    factor = float(np.exp(student(spread.freedom) * error))
    low, high = odds / (odds + factor), 1 - 1 / (1 + odds * factor)
    return Interval(min(low, value), max(high, value), method)


def auprc_interval(
    value: float, spread: Spread, positives: int, *, few: bool
) -> Interval:
    """Compute the 95 % interval of an AUPRC.

    Boyd, Eng and Page, "Area under the Precision-Recall Curve: Point Estimates and
    Confidence Intervals", ECML PKDD 2013, section 3.2: symmetric on the logit. The
    percentiles of resamples are too high, for drawing a rare positive twice raises
    precision; of resamples only the standard error is taken.

    Args:
        value: in (0, 1].
        spread: of resamples, and the bias.
        positives: units with a positive.
        few: the standard error is at least the binomial one that Boyd et al. use, for
            resamples say too little.
    """
    spread = spread._replace(freedom=positives - 1)
    if few:
        least = (value * (1 - value) / positives) ** 0.5
        spread = spread._replace(error=max(spread.error, least))
    interval = logit_interval(value, spread)
    if interval is None:
        hits = np.array([value * positives])
        low, high = wilson(hits, np.array([positives]))
        return Interval(float(low[0]), float(high[0]), "wilson")
    return interval


def mean_area_interval(
    value: float,
    spread: Spread,
    parts: Sequence[tuple[float, Interval]],
    *,
    few: bool,
) -> Interval:
    """Compute the 95 % interval of the mean over classes of an area.

    Args:
        value: the mean.
        spread: of the mean, the images being the same for all classes.
        parts: value and interval of every class.
        few: of some class there are so few units that the spread may be too small; the
            interval is then at least as wide as from those of the classes.
    """
    interval = logit_interval(value, spread)
    if interval is not None and not few:
        return interval
    values, ends = zip(*parts, strict=True)
    of_parts = mover(values, ends)
    if interval is None:
        return of_parts
    low, high = min(interval.low, of_parts.low), max(interval.high, of_parts.high)
    return Interval(low, high, interval.method)


def root_of_squares(parts: np.ndarray) -> float:
    """Compute a standard error from the contribution of each unit."""
    return float(np.square(parts).sum()) ** 0.5
