"""DeLong's covariance of AUROCs, and tests between models."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from jaxmed.evaluation.intervals.proportions import Z

# Of a variance: less comes from adding up in another order. One image of 100,000 that
# changes places with the next makes 1e-21.
ROUNDING = 1e-26


def placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the placement values of positives and of negatives.

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


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    others = np.sort(others)
    below = np.searchsorted(others, scores, side="left")
    below_or_tied = np.searchsorted(others, scores, side="right")
    return (below + below_or_tied) / (2 * len(others))


def auroc_covariance(
    truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the AUROCs of r models on the same images, and their covariance.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 1988, eq. 5.

    Args:
        truth: bool (n,), with at least two of both kinds.
        scores: float (r, n).

    Returns:
        float64 (r,) and (r, r).
    """
    pairs = [placements(truth, one) for one in scores]
    of_positives = np.stack([positives for positives, _ in pairs])
    of_negatives = np.stack([negatives for _, negatives in pairs])
    covariance = np.cov(of_positives) / of_positives.shape[1]
    covariance = covariance + np.cov(of_negatives) / of_negatives.shape[1]
    return of_positives.mean(axis=1), np.atleast_2d(covariance)


class DelongTest(NamedTuple):
    """Whether a difference between AUROCs of the same images is 0.

    Attributes:
        interval: 95 %, of the difference, within [-1, 1].
        p: two-sided.
    """

    interval: tuple[float, float]
    p: float


def delong_test(truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> DelongTest | None:
    """Tests whether two arms' mean AUROCs on the same images are equal.

    DeLong et al. 1988, eq. 7 and 8, for the contrast that takes the mean over the
    models of `b` from that over those of `a`. Its variance is that of the contrast of
    placement values, which is the same as that from the covariance matrix.

    Args:
        truth: bool (n,).
        a: float (r, n), the scores of r models, such as seeds.
        b: float (s, n).

    Returns:
        None where there are fewer than two positives or negatives, or where the
        variance of a difference that is not 0 is estimated as 0.
    """
    if min(truth.sum(), (~truth).sum()) < 2:
        return None
    contrasts = [x - y for x, y in zip(_mean(truth, a), _mean(truth, b), strict=True)]
    difference = float(contrasts[0].mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in contrasts)
    if variance < ROUNDING:
        equal = abs(difference) < ROUNDING**0.5
        return DelongTest((0.0, 0.0), 1.0) if equal else None
    error = variance**0.5
    half = Z * error
    ends = max(difference - half, -1.0), min(difference + half, 1.0)
    return DelongTest(ends, 2 * float(ndtr(-abs(difference) / error)))


def _mean(truth: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Means over models of the placements of positives and of negatives."""
    pairs = [placements(truth, one) for one in scores]
    return [np.mean(parts, axis=0) for parts in zip(*pairs, strict=True)]
