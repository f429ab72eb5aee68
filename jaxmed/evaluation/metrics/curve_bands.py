"""Bands around ROC and precision-recall curves: intervals point by point."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import FEW, levels
from jaxmed.evaluation.metrics.counts import ratio
from jaxmed.evaluation.metrics.operating_points import OperatingPoints
from jaxmed.evaluation.predictions import Predictions

# At recall 0 nothing is found, and there is no precision.
GRID = np.arange(1, 201) / 200
# Fewer resamples than numbers need: a picture shows no third digit.
RESAMPLES = 500
# Rates closer than this are the same.
TIE = 1e-12


class Band(NamedTuple):
    """A curve and its 95 % interval at each point of a grid, all float (200,).

    Attributes:
        at: from 0.005 to 1; the false positive rate, or the recall.
        value: the curve of the split itself: sensitivity, or precision.
        low, high: ends of the interval at that point, which is not one of the curve as
            a whole.
    """

    at: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_band(
    predictions: Predictions,
    classes: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band | None:
    """Computes sensitivity where a given rate of false positives is allowed.

    The bootstrap is that of all intervals; the curves of resamples are averaged at
    equal false positive rates (Fawcett, "An introduction to ROC analysis", Pattern
    Recognition Letters 2006, section 8.1).

    Args:
        predictions: of any task.
        classes: indices; each is told from the rest, and several are averaged.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        None where there are fewer than `FEW` images (patients, where they are known)
        of one of the classes, or of its rest.
    """
    return _band(predictions, classes, _sensitivity, resamples, seed)


def precision_recall_band(
    predictions: Predictions,
    classes: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band | None:
    """Computes precision at the highest threshold that reaches a given recall.

    Arguments and result are those of `roc_band`.
    """
    return _band(predictions, classes, _precision, resamples, seed)


def _band(predictions, classes, curve: Callable, resamples, seed) -> Band | None:
    n, points, units = len(predictions.ids), [], units_of(predictions)
    for i in classes:
        images = np.flatnonzero(predictions.known[:, i])
        truth = predictions.truth[images, i]
        kinds = np.stack([truth, ~truth], axis=1)
        if units.of(images).having(kinds).min() < FEW:
            return None
        scores = predictions.probs[images, i]
        points.append(OperatingPoints(truth, scores, images, n))

    def curves(counts: np.ndarray) -> np.ndarray:
        """The mean over classes: (grid, resamples)."""
        return np.mean([curve(*one(counts)) for one in points], axis=0)

    drawn = Bootstrap(resamples=resamples, seed=seed).counts(units)
    samples = np.concatenate([curves(counts) for counts in drawn], axis=1)
    # A resample may lack a class.
    samples = samples[:, ~np.isnan(samples).any(axis=0)]
    if not samples.size:
        return None
    value = curves(np.ones((n, 1)))[:, 0]
    return Band(GRID, value, *np.quantile(samples, levels(units.size), axis=1))


def _sensitivity(true, false, positives, negatives) -> np.ndarray:
    rates, alarms = ratio(true, positives), ratio(false, negatives)
    rates = np.concatenate([np.zeros_like(rates[:1]), rates])
    columns = []
    for rate, alarm in zip(rates.T, alarms.T, strict=True):
        allowed = np.searchsorted(alarm, GRID + TIE, side="right")
        columns.append(rate[allowed])
    return _defined(columns, positives, negatives)


def _precision(true, false, positives, negatives) -> np.ndarray:
    rates, precisions = ratio(true, positives), ratio(true, true + false)
    last = len(rates) - 1
    columns = []
    for rate, precision in zip(rates.T, precisions.T, strict=True):
        first = np.searchsorted(rate, GRID - TIE, side="left")
        columns.append(precision[np.minimum(first, last)])
    return _defined(columns, positives, negatives)


def _defined(columns, positives, negatives) -> np.ndarray:
    curves = np.stack(columns, axis=1)
    curves[:, (positives == 0) | (negatives == 0)] = np.nan
    return curves
