"""Calibration intercept and slope of a binary task: how recalibrating would go."""

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from jaxmed.evaluation.calibration import logits_from
from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import (
    Interval,
    Key,
    Measure,
    Undefined,
    student,
)
from jaxmed.evaluation.metrics.counts import ONE_CLASS, scarcity
from jaxmed.evaluation.predictions import Predictions

SEPARATED = Undefined("a threshold separates the classes")
ALIKE = Undefined("all probabilities are alike")
STEPS = 100


class Recalibration(Measure):
    """Calibration intercept and slope: what logistic recalibration would do.

    Cox, "Two further applications of a model for binary regression", Biometrika 1958;
    Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC
    Medicine 2019. The slope b is that of logit P(positive) = a + b logit(p): below 1,
    probabilities are too extreme, above 1 not extreme enough. The intercept is a where
    b is 1: below 0, probabilities are too high on average, above 0 too low.

    Intervals are Wald's, with the variance that holds also if the logistic model does
    not (Huber's; summed over units where images are clustered), and Student's t of as
    many degrees of freedom as there are units of the rarer class, less one.

    Args:
        predictions: of a binary task.
        probs: (n, 2), others than those of the predictions, such as calibrated ones.
        prefix: of the keys.
        suffix: added to "intercept" and "slope".
    """

    def __init__(
        self, predictions: Predictions, probs=None, prefix: Key = (), suffix: str = ""
    ):
        probs = predictions.probs if probs is None else probs
        self.images = len(predictions.ids)
        self._names, self._truth = predictions.class_names, predictions.truth
        logits = logits_from(probs, predictions.task)
        self._positive = predictions.truth[:, 1].astype(np.float64)
        self._logit = logits[:, 1] - logits[:, 0]
        names = ("intercept", "slope")
        self._keys = [(*prefix, f"{name}{suffix}") for name in names]
        self._fits: dict[Key, tuple[float, np.ndarray] | Undefined] = {}
        fits = self._intercept(), self._slope()
        self._fits = dict(zip(self._keys, fits, strict=True))

    def _intercept(self) -> tuple[float, np.ndarray] | Undefined:
        if len(np.unique(self._positive)) < 2:
            return ONE_CLASS
        ones = np.ones((self.images, 1))
        return _fit(ones, self._positive, self._logit)

    def _slope(self) -> tuple[float, np.ndarray] | Undefined:
        if len(np.unique(self._positive)) < 2:
            return ONE_CLASS
        if np.ptp(self._logit) == 0:
            return ALIKE
        yes, no = (self._logit[self._positive == kind] for kind in (1, 0))
        if yes.min() >= no.max() or yes.max() <= no.min():
            return SEPARATED
        design = np.stack([np.ones(self.images), self._logit], axis=1)
        return _fit(design, self._positive, np.zeros(self.images))

    def values(self) -> dict[Key, float | Undefined]:
        """Computes both of the split itself."""
        return {
            key: fit if isinstance(fit, Undefined) else fit[0]
            for key, fit in self._fits.items()
        }

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns nothing: intervals are by formula."""
        return {}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Computes the intervals, see the class and `Measure`."""
        negatives, positives = units.having(self._truth)
        few = scarcity(self._names[1], positives, negatives, units)
        intervals: dict[Key, Interval | Undefined] = {}
        for key, fit in self._fits.items():
            if few is not None or isinstance(fit, Undefined):
                intervals[key] = few or ONE_CLASS
                continue
            value, influence = fit
            moved = units.sums(influence[:, None])
            scale = units.size / (units.size - 1)
            freedom = min(negatives, positives) - 1
            half = student(freedom) * float(np.square(moved).sum() * scale) ** 0.5
            intervals[key] = Interval(value - half, value + half, "wald")
        return intervals

    def reason(self, key: Key) -> Undefined:
        """Says why one of the split itself is not defined."""
        fit = self._fits[key]
        return fit if isinstance(fit, Undefined) else ONE_CLASS


def _fit(
    design: np.ndarray, positive: np.ndarray, offset: np.ndarray
) -> tuple[float, np.ndarray] | Undefined:
    """Fits a logistic regression by Newton's method.

    Args:
        design: (n, c).
        positive: 0 and 1, (n,).
        offset: (n,), added to the logit.

    Returns:
        The last coefficient, and how each image moves it: (n,).
    """
    numbers = np.zeros(design.shape[1])

    def loss(numbers: np.ndarray) -> float:
        logit = offset + design @ numbers
        return float((np.logaddexp(0, logit) - positive * logit).sum())

    for _ in range(STEPS):
        share = expit(offset + design @ numbers)
        gradient = design.T @ (positive - share)
        curvature = (design * (share * (1 - share))[:, None]).T @ design
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        before, size = loss(numbers), 1.0
        # A whole step may go too far where the logits are extreme.
        while size > 1e-12 and loss(numbers + size * step) > before:
            size /= 2
        numbers = numbers + size * step
        if np.abs(step).max() < 1e-12 * (1 + np.abs(numbers).max()):
            break
    share = expit(offset + design @ numbers)
    curvature = (design * (share * (1 - share))[:, None]).T @ design
    scores = design * (positive - share)[:, None]
    return float(numbers[-1]), np.linalg.lstsq(curvature, scores.T, rcond=None)[0][-1]
