"""Significance tests of a difference, and adjustment for multiple comparisons."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest, chi2
from scipy.stats import t as student

from jaxmed.evaluation.intervals.estimate import LEVEL, Undefined

# Below so many images that only one of two models gets right, McNemar's test is exact.
FEW = 25
ROUNDING = 1e-12
NO_SPREAD = Undefined("neither images nor seeds vary")
ONE_SEED = Undefined("one seed only")


def mcnemar(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Test whether two models are right equally often, on the same images.

    McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 1947. Of the images that just one of
    them gets right, half should be either's: the exact binomial test where there are
    fewer than `FEW` of them, else chi-squared with Edwards' correction for continuity
    (Psychometrika 1948).

    Args:
        a, b: bool (n,), whether each is right.

    Returns:
        {"p", "test", "only_a", "only_b"}: the two-sided p, "mcnemar_exact" or
        "mcnemar_chi2", and the number of images that only one is right about.

    Examples:
        >>> a = np.array([True] * 9 + [False])
        >>> b = np.array([True] * 2 + [False] * 8)
        >>> mcnemar(a, b)
        {'p': 0.015625, 'test': 'mcnemar_exact', 'only_a': 7, 'only_b': 0}
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    counts = {"only_a": only_a, "only_b": only_b}
    discordant = only_a + only_b
    if discordant == 0:
        return {"p": 1.0, "test": "mcnemar_exact"} | counts
    if discordant < FEW:
        p = float(binomtest(only_a, discordant).pvalue)
        return {"p": p, "test": "mcnemar_exact"} | counts
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / discordant
    return {"p": float(chi2.sf(statistic, 1)), "test": "mcnemar_chi2"} | counts


def bootstrap_p(samples: np.ndarray) -> float | None:
    """Compute the two-sided p of a difference from its resamples.

    It is the level at which the percentile interval begins to hold 0 (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, section 15.4), with one added
    to each count, so that it is never 0 (Davison and Hinkley, "Bootstrap Methods and
    their Application", 1997, eq. 4.11).

    Args:
        samples: float64 (resamples,), of the difference; NaN are left out.

    Returns:
        At least 2 / (resamples + 1); None without a resample.
    """
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None
    fewer = min((defined <= 0).sum(), (defined >= 0).sum())
    return min(1.0, 2 * float(fewer + 1) / (len(defined) + 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values for being several.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 1979: the smallest of m is multiplied by m, the next by
    m - 1, and none is less than the one before it.

    Args:
        p_values: None where there was no test; those are not counted.

    Examples:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    order = [i for i, p in enumerate(p_values) if p is not None]
    order.sort(key=lambda i: p_values[i] or 0.0)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = highest
    return adjusted


def another_training(
    value: float,
    images_variance: float,
    units: int,
    arms: Sequence[np.ndarray],
    limits: tuple[float, float],
) -> dict[str, Any]:
    """Compute interval and test of a mean over seeds, or of a difference of two.

    The question is what training again would give on other images drawn like these.
    The variance over images and those of the seeds' means, s² / S of each arm, add up;
    a sum of estimated variances has Satterthwaite's degrees of freedom ("An
    approximate distribution of estimates of variance components", Biometrics Bulletin
    1946, eq. 17). Seeds are taken as independent of each other and between arms, and
    their values as normal.

    Args:
        value: the mean over seeds of an arm, or the difference between two arms'.
        images_variance: of that value, over the choice of the test images.
        units: how many images, or groups of them, were drawn from.
        arms: float (seeds,), the metric of every seed, of one arm or of two.
        limits: what the value can be; see `wald`.

    Returns:
        {"ci_low", "ci_high", "se", "df", "p"}, with the standard error, and p two-sided
        for the value 0; None for all of them and a "reason" where an arm has one seed.
    """
    missing = dict.fromkeys(("ci_low", "ci_high", "se", "df", "p"))
    if min(map(len, arms)) < 2:
        return missing | {"reason": ONE_SEED.reason}
    parts = [(float(of.var(ddof=1)) / len(of), len(of) - 1) for of in arms]
    parts.append((images_variance, max(units - 1, 1)))
    variance = sum(part for part, _ in parts)
    if not variance > ROUNDING**2:
        return missing | {"reason": NO_SPREAD.reason}
    df = variance**2 / sum(part**2 / free for part, free in parts)
    low, high = wald(value, variance, limits, df)
    error = float(variance**0.5)
    p = 2 * student.sf(abs(value) / error, df)
    ends = {"ci_low": low, "ci_high": high}
    return ends | {"se": error, "df": float(df), "p": float(p)}


def wald(
    value: float, variance: float, limits: tuple[float, float], df: float = math.inf
) -> tuple[float, float]:
    """Compute the 95 % interval of a value from its variance, by t or normally.

    Between 0 and 1 it is of the value's logit, whose variance is by the delta method
    that of the value over (value (1 - value))²: near 1 such an interval covers where
    value ± error does not. Elsewhere it is cut to the limits.
    """
    half = float(student.ppf((1 + LEVEL) / 2, df)) * variance**0.5
    if limits == (0.0, 1.0) and 0 < value < 1:
        half /= value * (1 - value)
        return float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return max(value - half, limits[0]), min(value + half, limits[1])
