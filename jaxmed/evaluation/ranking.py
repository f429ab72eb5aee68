"""AUROC, for thousands of resamples at once."""

import numpy as np

from jaxmed.evaluation.intervals import Key, Undefined
from jaxmed.evaluation.metrics import (
    ALL_IMAGES,
    NO_IMAGE,
    undefined_classes,
)
from jaxmed.evaluation.predictions import Predictions


class RankSum:
    """AUROC of a score, for resamples: the Mann-Whitney statistic, ties counting half.

    The scores are sorted once. Let B be the positives and A the negatives or the
    other way round, A the fewer. For every image of B, the number of drawn images of
    A with a lower score is a difference of cumulative counts, so that a resample
    costs one pass over the counts and no sorting. All sums are whole or half numbers
    far below 2**53, so they are exact.

    Args:
        truth: bool (n,), the positives.
        scores: float (n,), higher for positives.
    """

    def __init__(self, truth: np.ndarray, scores: np.ndarray):
        few, many = np.flatnonzero(truth), np.flatnonzero(~truth)
        self._few_are_positive = len(few) <= len(many)
        if not self._few_are_positive:
            few, many = many, few
        self._few = few[np.argsort(scores[few])]
        self._many = many[np.argsort(scores[many])]
        in_order, values = scores[self._few], scores[self._many]
        self._below = np.searchsorted(in_order, values, side="left")
        self._below_or_tied = np.searchsorted(in_order, values, side="right")
        self._ties = bool((self._below != self._below_or_tied).any())

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Computes the AUROC of resamples, NaN for those of one class.

        Args:
            counts: float64 (n, resamples).

        Returns:
            float64 (resamples,).
        """
        cumulative = np.zeros((len(self._few) + 1, counts.shape[1]))
        np.cumsum(counts[self._few], axis=0, out=cumulative[1:])
        drawn = counts[self._many]
        below = cumulative[self._below]
        if self._ties:
            below = (below + cumulative[self._below_or_tied]) / 2
        # Pairs whose image of the larger side has the higher score.
        higher = np.einsum("ij,ij->j", drawn, below)
        pairs = cumulative[-1] * drawn.sum(axis=0)
        if self._few_are_positive:
            higher = pairs - higher
        defined = pairs > 0
        nan = np.full(len(pairs), np.nan)
        return np.divide(higher, pairs, out=nan, where=defined)


class Ranking:
    """AUROC: of the positive class in binary tasks, else the mean over classes.

    Each class is ranked against the rest by its own probability (one-vs-rest), as
    scikit-learn's `roc_auc_score(multi_class="ovr", average="macro")` does.
    """

    def __init__(self, predictions: Predictions):
        self._predictions = predictions
        columns = zip(predictions.truth.T, predictions.probs.T, strict=True)
        self._rank_sums = [RankSum(truth, scores) for truth, scores in columns]

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself."""
        from sklearn.metrics import roc_auc_score

        values: dict[Key, float | Undefined] = {}
        truth = self._predictions.truth
        for i, name in enumerate(self._predictions.class_names):
            if not truth[:, i].any():
                value = NO_IMAGE
            elif truth[:, i].all():
                value = ALL_IMAGES
            else:
                value = float(roc_auc_score(truth[:, i], self._predictions.probs[:, i]))
            values["per_class", name, "auroc"] = value
        reason = undefined_classes(self._predictions)
        if reason is not None:
            values[("auroc",)] = reason
        elif self._predictions.task == "binary":
            positive = self._predictions.class_names[1]
            values[("auroc",)] = values["per_class", positive, "auroc"]
        else:
            values[("auroc",)] = float(np.mean(list(values.values())))  # type: ignore
        return values

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        per_class = np.stack([rank_sum(counts) for rank_sum in self._rank_sums])
        binary = self._predictions.task == "binary"
        overall = per_class[1] if binary else per_class.mean(axis=0)
        samples: dict[Key, np.ndarray] = {("auroc",): overall}
        for name, sample in zip(self._predictions.class_names, per_class, strict=True):
            samples["per_class", name, "auroc"] = sample
        return samples
