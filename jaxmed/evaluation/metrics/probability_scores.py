"""Metrics of the probabilities themselves: log loss and Brier score."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import (
    FEW,
    SAME,
    Interval,
    Key,
    Measure,
    Undefined,
    student,
)
from jaxmed.evaluation.metrics.counts import ratio, scarcity
from jaxmed.evaluation.predictions import Predictions

NO_LABEL = Undefined("no label is known")


class Losses(Measure):
    """Log loss and Brier score.

    Log loss is that of all k probabilities as they stand, clipped as scikit-learn
    clips float64. The Brier score (Brier 1950) is the squared error summed over the
    classes, and half of that in binary tasks, as scikit-learn scales it. In multilabel
    tasks both are means over all known (image, label) pairs.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        keys: of log loss and Brier score.
    """

    def __init__(
        self,
        predictions: Predictions,
        probs: np.ndarray | None = None,
        keys: tuple[Key, Key] = (("log_loss",), ("brier",)),
    ):
        self._predictions = predictions
        self._probs = predictions.probs if probs is None else probs
        self._keys = keys
        self.images = len(predictions.ids)
        pairs = np.ones(self.images)
        if predictions.task == "multilabel":
            pairs = predictions.known.sum(axis=1)
        # Sparse for its product, which unlike a dense one does not start threads: they
        # would fight with those of a training beside it.
        self._per_image = sparse.csr_array(
            np.stack([self._log_losses(), self._squared_errors(), pairs])
        )

    def _log_losses(self) -> np.ndarray:
        epsilon = np.finfo(np.float64).eps
        truth = self._predictions.truth
        if self._predictions.task != "multilabel":
            return -np.log(np.clip(self._probs[truth], epsilon, 1 - epsilon))
        probs = np.where(truth, self._probs, 1 - self._probs)
        losses = -np.log(np.clip(probs, epsilon, 1 - epsilon))
        return (losses * self._predictions.known).sum(axis=1)

    def _squared_errors(self) -> np.ndarray:
        errors = np.square(self._probs - self._predictions.truth)
        if self._predictions.task == "binary":
            return errors[:, 1]
        if self._predictions.task == "multilabel":
            errors *= self._predictions.known
        return errors.sum(axis=1)

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        *sums, pairs = np.asarray(self._per_image @ counts)
        return {key: ratio(s, pairs) for key, s in zip(self._keys, sums, strict=True)}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Computes intervals that are symmetric on the logarithm, see `Measure`.

        Losses are skewed, of few images strongly; their logarithm less. There is none
        where nearly all images are of one class: the few others decide.
        """
        predictions, reason = self._predictions, None
        if predictions.task != "multilabel":
            largest = int(np.bincount(predictions.labels).argmax())
            (others,) = units.having(predictions.labels[:, None] != largest)
            reason = scarcity(predictions.class_names[largest], FEW, others, units)
        elif units.size < FEW:
            reason = Undefined(f"fewer than {FEW} {units.noun}")
        if reason is not None:
            return dict.fromkeys(self._keys, reason)
        *sums, pairs = units.sums(self._per_image.toarray().T).T
        rows = zip(self._keys, sums, strict=True)
        return {key: _interval(of, pairs) for key, of in rows}

    def reason(self, key: Key) -> Undefined:
        """Says why a metric of the split itself is NaN."""
        return NO_LABEL


def _interval(sums: np.ndarray, pairs: np.ndarray) -> Interval | Undefined:
    """Computes the interval of a mean from sums over units, (m,) each."""
    m, total = len(pairs), pairs.sum()
    value = sums.sum() / total if total else 0.0
    variance = m / (m - 1) * np.square(sums - value * pairs).sum()
    if not value or not variance:
        return SAME
    factor = np.exp(student(m - 1) * variance**0.5 / (total * value))
    return Interval(value / factor, value * factor, "log")
