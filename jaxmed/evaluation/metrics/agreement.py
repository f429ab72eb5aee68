"""Agreement of decisions with labels over all classes, for thousands of resamples.

All of it follows from how many images are of each class, how many are said to be, and
how many are right: no confusion matrix per resample is needed.
"""

import numpy as np

from jaxmed.evaluation.metrics.counts import Tallies, ratio


def kappa(tallies: Tallies) -> np.ndarray:
    """Computes Cohen's kappa (1960): (resamples,), NaN if chance agrees fully."""
    right, chance, n = _sums(tallies)
    return ratio(n * right - chance, n * n - chance)


def mcc(tallies: Tallies) -> np.ndarray:
    """Computes Matthews' correlation of k classes: (resamples,).

    Gorodkin, "Comparing two K-category assignments by a K-category correlation
    coefficient", 2004. NaN if all labels, or all decisions, are alike.
    """
    right, chance, n = _sums(tallies)
    of_labels = n * n - np.square(tallies.true).sum(axis=0)
    of_decisions = n * n - np.square(tallies.decided).sum(axis=0)
    return ratio(n * right - chance, np.sqrt(of_labels * of_decisions))


def _sums(tallies: Tallies) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = (tallies.true * tallies.decided).sum(axis=0)
    return tallies.both.sum(axis=0), chance, tallies.n[0]


class QuadraticKappa:
    """Cohen's kappa with quadratic weights (Cohen 1968), for ordered classes.

    1 - mean((i - j)^2) / expected((i - j)^2), where i is the label, j the decision,
    and chance draws them independently: means of i, j and their squares suffice.

    Args:
        labels, decided: int (n,), indices of ordered classes.
    """

    def __init__(self, labels: np.ndarray, decided: np.ndarray):
        i, j = labels.astype(np.float64), decided.astype(np.float64)
        self._parts = np.stack([np.square(i - j), i, j, i * i, j * j])

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Computes it in resamples: counts is (n, resamples)."""
        # Not a matrix product, whose threads would fight with those of a training.
        sums = np.einsum("in,nr->ir", self._parts, counts)
        observed, i, j, i_squared, j_squared = sums
        n = counts.sum(axis=0)
        return 1 - ratio(n * observed, n * i_squared + n * j_squared - 2 * i * j)
