"""Counts at every threshold that matters, for thousands of resamples at once."""

import numpy as np
from scipy import sparse

from jaxmed.evaluation.proportions import ratio


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
        place = np.searchsorted(-self.thresholds, -scores)
        rows = np.where(truth, place, m + place)
        self._steps = sparse.csr_array(
            (np.ones(len(rows)), (rows, images)), shape=(2 * m + 1, n)
        )

    def __call__(
        self, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Counts in resamples.

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
        """Computes the area under the precision-recall curve: (resamples,).

        It is scikit-learn's `average_precision_score`: precision at each threshold,
        weighted by what it adds to recall, without interpolation. NaN where there is
        no positive.
        """
        true, false, positives, _ = self(counts)
        gained = np.diff(true, axis=0, prepend=0)
        found = true + false
        # Where nothing is found yet, nothing is gained.
        found[found == 0] = 1
        return ratio((gained * true / found).sum(axis=0), positives)
