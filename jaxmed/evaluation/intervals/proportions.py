"""Intervals by formula of proportions, and of their means and ratios.

A proportion gets Wilson's interval. Where the images of a patient are alike, their
number counts for less than as many independent ones: for as many as would have the
variance that the patients show.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import FEW, LEVEL, Interval, student
from jaxmed.evaluation.metrics.counts import Tallies, ratio

Z = float(ndtri((1 + LEVEL) / 2))
Array = np.ndarray


class Share(NamedTuple):
    """A proportion with its interval.

    Attributes:
        value: hits / trials, NaN without a trial.
        low, high: ends of the 95 % interval.
        trials: independent ones that tell as much.
        method: "wilson", or "wilson_clustered".
    """

    value: float
    low: float
    high: float
    trials: float
    method: str

    @property
    def interval(self) -> Interval:
        """Return the interval alone."""
        return Interval(self.low, self.high, self.method)

    @property
    def rest(self) -> "Share":
        """Return the proportion of misses."""
        ends = 1 - self.value, 1 - self.high, 1 - self.low
        return Share(*ends, self.trials, self.method)


def wilson(hits: Array, trials: Array) -> tuple[Array, Array]:
    """Compute the 95 % score interval of a proportion.

    Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 1927; as `scipy.stats.binomtest(...).proportion_ci(method="wilson")`.

    Args:
        hits, trials: of one shape; they need not be whole numbers.

    Returns:
        Its two ends, NaN where there are no trials.

    Examples:
        >>> low, high = wilson(np.array([10.0, 3.0]), np.array([10.0, 10.0]))
        >>> low.round(3), high.round(3)
        (array([0.722, 0.108]), array([1.   , 0.603]))
    """
    share, z2 = ratio(hits, trials), Z * Z
    n = np.where(np.asarray(trials) > 0, trials, np.nan)
    center = share + z2 / (2 * n)
    spread = np.sqrt(z2 * share * (1 - share) / n + z2 * z2 / (4 * n * n))
    scale = 1 + z2 / n
    # At shares of 0 and 1 the interval's end is exact but for rounding.
    low = np.where(hits == 0, 0.0, (center - spread) / scale)
    high = np.where(hits == trials, 1.0, (center + spread) / scale)
    nothing = np.isnan(n)
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def shares(hits: Array, trials: Array, *, clustered: bool) -> list[Share]:
    """Compute k proportions over units, and their intervals.

    Where units are clusters of trials, Wilson's interval is that of the effective
    number of trials: p (1 - p) over the variance of the ratio estimator (Cochran,
    "Sampling Techniques", 1977, section 6.3), with Student's t in place of the normal
    quantile (Korn and Graubard, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data", Survey Methodology
    1998). It is at least that of trials which are all alike within a unit (Kish,
    "Survey Sampling", 1965), and at most that of independent ones. It is the least
    where the variance tells nothing: if all are hits or none, or fewer than `FEW`
    units have trials.

    Args:
        hits, trials: whole numbers (k, m), in each of m units.
        clustered: a unit may hold several trials.
    """
    total, successes = trials.sum(axis=1), hits.sum(axis=1)
    share, effective = ratio(successes, total), total
    if clustered:
        units = (trials > 0).sum(axis=1)
        residuals = hits - np.nan_to_num(share)[:, None] * trials
        variance = ratio(np.square(residuals).sum(axis=1), total * total)
        variance *= ratio(units, units - 1.0)
        least = ratio(total * total, np.square(trials).sum(axis=1))
        tells = (share > 0) & (share < 1) & (units >= FEW)
        # Without any variance the units are more alike than chance would have them.
        by_variance = ratio(share * (1 - share), variance)
        by_variance = np.where(np.isnan(by_variance), total, by_variance)
        effective = np.clip(np.where(tells, by_variance, least), least, total)
        effective *= np.square(Z / student(units - 1.0))
    low, high = wilson(share * effective, effective)
    method = "wilson_clustered" if clustered else "wilson"
    columns = (part.tolist() for part in (share, low, high, effective))
    rows = zip(*columns, strict=True)
    return [Share(p, down, up, trials, method) for p, down, up, trials in rows]


def mean_interval(parts: Sequence[Share]) -> Interval:
    """Compute the interval of a mean of independent proportions.

    Zou and Donner, "Construction of confidence limits about effect measures: a general
    approach", Statistics in Medicine 2008 (MOVER): the distances to the parts' own ends
    are added as standard errors are. For two of them it is the square-and-add interval
    of Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 1998, method 10.
    """
    return mover([part.value for part in parts], [part.interval for part in parts])


def mover(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Compute the interval of a mean of independent estimates, see `mean_interval`."""
    center, k = float(np.mean(values)), len(values)
    below = sum(
        (v - interval.low) ** 2 for v, interval in zip(values, intervals, strict=True)
    )
    above = sum(
        (interval.high - v) ** 2 for v, interval in zip(values, intervals, strict=True)
    )
    return Interval(center - below**0.5 / k, center + above**0.5 / k, "mover")


def ratio_interval(above: Share, below: Share) -> Interval:
    """Compute the interval of a ratio of independent proportions.

    Simel, Samsa and Matchar, "Likelihood ratios with confidence: sample size estimation
    for diagnostic test studies", Journal of Clinical Epidemiology 1991: normal on the
    logarithm. Where one of the four counts is 0, half is added to each, as they advise;
    a ratio of 0 then has an interval from 0, and one by 0 an interval up to infinity.
    """
    if np.isnan(above.value) or np.isnan(below.value):
        return Interval(np.nan, np.nan, "log")
    a, n = above.value * above.trials, above.trials
    b, m = below.value * below.trials, below.trials
    if min(a, n - a, b, m - b) <= 0:
        a, n, b, m = a + 0.5, n + 1, b + 0.5, m + 1
    center = a / n * m / b
    if above.value > 0 and below.value > 0:
        center = above.value / below.value
    half = Z * (1 / a - 1 / n + 1 / b - 1 / m) ** 0.5
    low = 0.0 if above.value == 0 else center * np.exp(-half)
    high = np.inf if below.value == 0 else center * np.exp(half)
    return Interval(float(low), float(high), "log")


def class_intervals(
    tallies: Tallies, units: Units, prevalence: float | None = None
) -> list[dict[str, Interval]]:
    """Compute intervals of one-vs-rest metrics.

    Sensitivity and specificity are of different images, and taken as independent; also
    where a patient has images of both.

    Args:
        tallies: in each unit, (k, m).
        units: what is drawn.
        prevalence: of predictive values "..._at_prevalence"; None for none of them.

    Returns:
        Of each class, by the names of `scores`; all but MCC and kappa.
    """
    both, true, predicted, n = tallies
    neither = n - true - predicted + both
    parts = {
        "accuracy": (both + neither, n),
        "sensitivity": (both, true),
        "specificity": (neither, n - true),
        "ppv": (both, predicted),
        "npv": (neither, n - predicted),
        # Of the images that are of the class or said to be, those that are both:
        # Jaccard's J, and F1 is 2 J / (1 + J).
        "f1": (both, true + predicted - both),
    }
    clustered = units.cluster is not None
    by_metric = {k: shares(*part, clustered=clustered) for k, part in parts.items()}
    return [
        _of_class({name: of[i] for name, of in by_metric.items()}, prevalence)
        for i in range(len(both))
    ]


def _of_class(by_metric: Mapping[str, Share], prevalence: float | None):
    intervals = {name: share.interval for name, share in by_metric.items()}
    low, high, method = intervals["f1"]
    intervals["f1"] = Interval(2 * low / (1 + low), 2 * high / (1 + high), method)
    sensitivity, specificity = by_metric["sensitivity"], by_metric["specificity"]
    mean = mean_interval([sensitivity, specificity])
    positive = ratio_interval(sensitivity, specificity.rest)
    negative = ratio_interval(sensitivity.rest, specificity)
    intervals |= {
        "balanced_accuracy": mean,
        "youden_j": Interval(2 * mean.low - 1, 2 * mean.high - 1, mean.method),
        "lr_positive": positive,
        "lr_negative": negative,
    }
    if prevalence is not None:
        # Bayes' theorem in odds; predictive values rise and fall with the ratios.
        odds = (1 - prevalence) / prevalence
        low, high = (1 - 1 / (1 + end / odds) for end in positive[:2])
        intervals["ppv_at_prevalence"] = Interval(low, high, "log")
        high, low = (1 / (1 + end / odds) for end in negative[:2])
        intervals["npv_at_prevalence"] = Interval(low, high, "log")
    return intervals


def root_between(function: Callable[[float], float], low: float, high: float) -> float:
    """Find the root of a function that rises from below 0 to above it.

    Returns:
        The end where it is 0 but for rounding, if it does not change its sign.
    """
    if function(high) <= 0:
        return high
    if function(low) >= 0:
        return low
    root: Any = brentq(function, low, high, xtol=1e-13)
    return float(root)
