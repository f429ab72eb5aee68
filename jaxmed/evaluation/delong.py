"""DeLong's covariance of AUROCs: intervals by formula, and tests between models."""

import numpy as np
from scipy.special import ndtri

from jaxmed.evaluation.intervals import LEVEL, Interval


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


def delong_interval(truth: np.ndarray, scores: np.ndarray) -> Interval | None:
    """Computes the 95 % interval of an AUROC, cut to [0, 1].

    None where there are fewer than two positives or negatives; or where they do not
    overlap, for the variance is then estimated as 0.
    """
    positives = int(truth.sum())
    if min(positives, len(truth) - positives) < 2:
        return None
    (auroc,), ((variance,),) = auroc_covariance(truth, scores[None])
    if variance == 0:
        return None
    half = float(ndtri((1 + LEVEL) / 2)) * np.sqrt(variance)
    return max(float(auroc - half), 0.0), min(float(auroc + half), 1.0)
