"""Metrics of the probabilities themselves: log loss and Brier score."""

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals import Key, Undefined
from jaxmed.evaluation.metrics import quiet
from jaxmed.evaluation.predictions import Predictions


class Losses:
    """Log loss and Brier score.

    Log loss is that of all k probabilities as they stand, clipped as scikit-learn
    clips float64. The Brier score (Brier 1950) is the squared error summed over the
    classes, and half of that in binary tasks, as scikit-learn scales it. In multilabel
    tasks both are means over labels.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        suffix: added to the names of the metrics.
    """

    def __init__(self, predictions: Predictions, probs=None, suffix: str = ""):
        self._predictions = predictions
        self._probs = predictions.probs if probs is None else probs
        self._keys: list[Key] = [("log_loss" + suffix,), ("brier" + suffix,)]
        # Sparse for its product, which unlike a dense one does not start threads: they
        # would fight with those of a training beside it.
        self._per_image = sparse.csr_array(
            np.stack([self._log_losses(), self._squared_errors()])
        )

    def _log_losses(self) -> np.ndarray:
        epsilon = np.finfo(np.float64).eps
        truth = self._predictions.truth
        probs = np.clip(self._probs, epsilon, 1 - epsilon)
        if self._predictions.task == "multilabel":
            # scikit-learn clips the two complements each on its own.
            others = np.clip(1 - self._probs, epsilon, 1 - epsilon)
            return -np.log(np.where(truth, probs, others)).mean(axis=1)
        return -np.log(probs[truth])

    def _squared_errors(self) -> np.ndarray:
        errors = np.square(self._probs - self._predictions.truth)
        if self._predictions.task == "multilabel":
            return errors.mean(axis=1)
        if self._predictions.task == "binary":
            return errors[:, 1]
        return errors.sum(axis=1)

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself."""
        from sklearn.metrics import brier_score_loss, log_loss

        labels, probs = self._predictions.labels, self._probs
        classes = list(range(probs.shape[1]))
        # Float32 probabilities sum to one within 1e-7, scikit-learn wants 1e-8.
        with quiet("The y_p.* values do not sum to one"):
            if self._predictions.task == "multilabel":
                pairs = list(zip(labels.T, probs.T, strict=True))
                loss = np.mean([log_loss(*pair, labels=[0, 1]) for pair in pairs])
                brier = np.mean(
                    [brier_score_loss(*pair, pos_label=1) for pair in pairs]
                )
            elif self._predictions.task == "binary":
                loss = log_loss(labels, probs, labels=classes)
                brier = brier_score_loss(labels, probs[:, 1], pos_label=1)
            else:
                loss = log_loss(labels, probs, labels=classes)
                brier = brier_score_loss(labels, probs, labels=classes)
        return dict(zip(self._keys, (float(loss), float(brier)), strict=True))

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        means = np.asarray(self._per_image @ counts) / len(counts)
        return dict(zip(self._keys, means, strict=True))
