"""How far confidence is from accuracy: calibration errors."""

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals import Key, Measure, Undefined
from jaxmed.evaluation.losses import NO_LABEL
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.proportions import ratio

BINS = 15


def equal_width_bins(confidence: np.ndarray) -> np.ndarray:
    """Puts confidences in [0, 1] into the bins ((m-1)/M, m/M]: int, 0 to M - 1."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.digitize(confidence, edges, right=True)


def equal_mass_bins(confidence: np.ndarray) -> np.ndarray:
    """Puts n confidences into M bins of about n / M each, equal ones together."""
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS)
    return np.digitize(confidence, edges, right=True)


class CalibrationError(Measure):
    """Expected calibration errors: |accuracy - confidence|, averaged over bins.

    "ece" is that of Guo et al. 2017, eq. 3, with bins of equal width; confidence is
    the probability of the most probable class. "ece_equal_mass" has bins that hold
    equally many images. "ace" is the adaptive calibration error of Nixon et al.,
    "Measuring Calibration in Deep Learning", CVPR workshops 2019: bins of equal mass
    for the probability of each class, and the mean over classes.

    In multilabel tasks each label has its own error, the confidence being the label's
    probability and the accuracy the share of images that have the label; the result is
    the mean over labels, and "ace" the same as "ece_equal_mass".

    The absolute value turns noise into error, so that a resample's error is higher on
    average than that of the images it is drawn from. The interval would lie above the
    value; it is shifted back by that bias.

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
        top = probs, truth, known
        if predictions.task != "multilabel":
            rows, best = np.arange(self.images), probs.argmax(axis=1)
            top = probs[rows, best, None], truth[rows, best, None], known[:, :1]
        kinds = {
            "ece": (equal_width_bins, *top),
            "ece_equal_mass": (equal_mass_bins, *top),
            "ace": (equal_mass_bins, probs, truth, known),
        }
        self._gaps = {(*prefix, f"{k}{suffix}"): _Gaps(*v) for k, v in kinds.items()}
        self.biased = tuple(self._gaps)

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the errors of resamples, see `Measure`."""
        return {key: gaps(counts) for key, gaps in self._gaps.items()}

    def reason(self, key: Key) -> Undefined:
        """Says why an error of the split itself is NaN."""
        return NO_LABEL


class _Gaps:
    """The mean over columns of the error of one column."""

    def __init__(self, bins_of, confidence, right, known):
        n, self._columns = confidence.shape
        bins = np.zeros(confidence.shape, np.int64)
        for i in range(self._columns):
            rows = known[:, i]
            if rows.any():
                bins[rows, i] = bins_of(confidence[rows, i])
        # A row per column and bin, holding what its images add to the gap.
        images, columns = np.nonzero(known)
        at = images, columns
        self._gaps = sparse.csr_array(
            ((right - confidence)[at], (bins[at] + BINS * columns, images)),
            shape=(BINS * self._columns, n),
        )
        self._known = None
        if not known.all():
            self._known = sparse.csr_array(known.T).astype(np.float64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        gaps = np.abs(np.asarray(self._gaps @ counts))
        sums = gaps.reshape(self._columns, BINS, -1).sum(axis=1)
        n = counts.sum(axis=0) if self._known is None else self._known @ counts
        return ratio(sums, np.asarray(n)).mean(axis=0)
