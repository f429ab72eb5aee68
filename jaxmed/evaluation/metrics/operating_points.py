"""Counts at every threshold that matters, for thousands of resamples at once."""

import numpy as np
from scipy import sparse

from jaxmed.evaluation.metrics.counts import ratio


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
        self._images = n
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

    def jackknife_bias(self) -> float:
        """Computes by how much the average precision is too high, of all images once.

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
