"""Calibration: one temperature, fitted on validation, and what it does on test."""

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp

from jaxmed.evaluation.intervals import Key, Undefined
from jaxmed.evaluation.metrics import ONE_CLASS
from jaxmed.evaluation.predictions import Predictions

BINS = 15
# A model that is always right on validation has no best temperature: the colder the
# better. The bounds keep what is stored finite.
TEMPERATURES = (0.05, 20.0)
# The smallest normal float32, and half a step below one: softmax in float32 gives 0
# and 1 beyond them.
LOWEST = float(np.finfo(np.float32).tiny)
HIGHEST = 1 - 2.0**-25


def logits_of(predictions: Predictions) -> np.ndarray:
    """Recovers logits (n, k) from probabilities, up to a constant per image.

    They are the logarithms of the probabilities, or log(p / (1 - p)) in multilabel
    tasks. Probabilities that float32 rounded to 0 count as 1e-38.
    """
    if predictions.task == "multilabel":
        probs = np.clip(predictions.probs, LOWEST, HIGHEST)
        return np.log(probs) - np.log1p(-probs)
    return np.log(np.maximum(predictions.probs, LOWEST))


def fit_temperature(predictions: Predictions) -> float | Undefined:
    """Fits the temperature that minimises the log loss of softmax(logits / T).

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. In
    multilabel tasks it is sigmoid(logits / T), one temperature for all labels.

    Args:
        predictions: of the validation split.

    Returns:
        T, within `TEMPERATURES`; undefined if all images are of one class.
    """
    if (predictions.labels == predictions.labels[0]).all():
        return ONE_CLASS
    logits, truth = logits_of(predictions), predictions.truth
    multilabel = predictions.task == "multilabel"
    signed = np.where(truth, logits, -logits)

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        if multilabel:
            return float(np.logaddexp(0, -signed * inverse).mean())
        scaled = logits * inverse
        return float((logsumexp(scaled, axis=1) - scaled[truth]).mean())

    bounds = np.log(TEMPERATURES)
    found = minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    # The search does not try the bounds themselves.
    candidates = [float(found.x), *map(float, bounds)]
    return float(np.exp(min(candidates, key=loss)))


def calibrate(predictions: Predictions, temperature: float) -> np.ndarray:
    """Computes the probabilities (n, k) at a temperature: float64.

    The most probable class stays the same.
    """
    scaled = logits_of(predictions) / temperature
    if predictions.task == "multilabel":
        return expit(scaled)
    return np.exp(log_softmax(scaled, axis=1))


class CalibrationError:
    """Expected calibration error: |accuracy - confidence|, averaged over bins.

    Guo et al. 2017, eq. 3, with bins of equal width ((m-1)/M, m/M]. Confidence is the
    probability of the most probable class. In multilabel tasks each label has its own
    error, the confidence being the label's probability and the accuracy the share of
    images that have the label; the result is the mean over labels.

    The absolute value turns noise into error, so that a resample's error is higher on
    average than that of the images it is drawn from. The interval would lie above the
    value; it is shifted back by that bias.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        suffix: added to the name "ece".
    """

    def __init__(self, predictions: Predictions, probs=None, suffix: str = ""):
        probs = predictions.probs if probs is None else probs
        self._key: Key = ("ece" + suffix,)
        self.biased = (self._key,)
        if predictions.task == "multilabel":
            confidence, right = probs, predictions.truth
        else:
            confidence = probs.max(axis=1)[:, None]
            right = probs.argmax(axis=1)[:, None] == predictions.labels[:, None]
        edges = np.linspace(0, 1, BINS + 1)[1:-1]
        bins = np.digitize(confidence, edges, right=True)
        # A row per column and bin, holding what its images add to the gap.
        n, self._columns = confidence.shape
        rows = bins + BINS * np.arange(self._columns)
        images = np.broadcast_to(np.arange(n)[:, None], rows.shape)
        self._n = n
        self._gaps = sparse.csr_array(
            ((right - confidence).ravel(), (rows.ravel(), images.ravel())),
            shape=(BINS * self._columns, n),
        )

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the error of the split itself."""
        ones = np.ones((self._n, 1))
        return {self._key: float(self.resampled(ones)[self._key][0])}

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the error of resamples, see `Measure`."""
        gaps = np.abs(np.asarray(self._gaps @ counts)).sum(axis=0)
        return {self._key: gaps / (self._columns * len(counts))}
