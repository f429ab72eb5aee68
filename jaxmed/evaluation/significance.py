"""Tests of a difference, and what several of them at once are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, chi2, ttest_ind

from jaxmed.evaluation.intervals import LEVEL, Undefined

# Below so many images that only one of two models gets right, McNemar's test is exact.
FEW = 25
ROUNDING = 1e-12
NO_SPREAD = Undefined("all seeds of an arm have the same value")
ONE_SEED = Undefined("one seed only")


def mcnemar(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Tests whether two models are right equally often, on the same images.

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
    """Computes the two-sided p of a difference from its resamples.

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
    """Adjusts p values for being several.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 1979: the smallest of m is multiplied by m, the next by
    m - 1, and none is less than the one before it.

    Args:
        p_values: None where there was no test; those are not counted.
    """
    order = [i for i, p in enumerate(p_values) if p is not None]
    order.sort(key=lambda i: p_values[i] or 0.0)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = highest
    return adjusted


def seeds_difference(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Compares the mean values of two arms' seeds, the test images as given.

    Welch, "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 1947. Seeds are taken as independent and their
    values as normal.

    Args:
        a, b: float (seeds,), a metric of every seed.

    Returns:
        {"value", "ci_low", "ci_high", "p", "seeds"}, or None for interval and p and a
        "reason" where an arm has one seed, or no spread.
    """
    seeds = [len(a), len(b)]
    found: dict[str, Any] = {"value": float(a.mean() - b.mean()), "seeds": seeds}
    missing = {"ci_low": None, "ci_high": None, "p": None}
    if min(seeds) < 2:
        return found | missing | {"reason": ONE_SEED.reason}
    if min(np.ptp(a), np.ptp(b)) < ROUNDING:
        return found | missing | {"reason": NO_SPREAD.reason}
    result: Any = ttest_ind(a, b, equal_var=False)
    low, high = result.confidence_interval(LEVEL)
    ends = {"ci_low": float(low), "ci_high": float(high)}
    return found | ends | {"p": float(result.pvalue)}
