"""Metrics of probabilities: log loss, Brier score and skill, calibration in numbers."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.special import expit

from jaxmed.evaluation.calibration import logits_from
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
from jaxmed.evaluation.metrics.counts import ONE_CLASS, ratio, scarcity
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
        """Compute the metrics of resamples, see `Measure`."""
        *sums, pairs = np.asarray(self._per_image @ counts)
        return {key: ratio(s, pairs) for key, s in zip(self._keys, sums, strict=True)}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute intervals that are symmetric on the logarithm, see `Measure`.

        Losses are skewed, of few images strongly; their logarithm less. There is none
        where nearly all images are of one class: the few others decide.
        """
        reason = _too_one_sided(self._predictions, units)
        if reason is not None:
            return dict.fromkeys(self._keys, reason)
        *sums, pairs = units.sums(self._per_image.toarray().T).T
        rows = zip(self._keys, sums, strict=True)
        return {key: _ratio_interval(of, pairs) for key, of in rows}

    def reason(self, key: Key) -> Undefined:
        """Return why a metric of the whole split is NaN."""
        return NO_LABEL


def _ratio_interval(above: np.ndarray, below: np.ndarray) -> Interval | Undefined:
    """Compute the interval of a ratio of two sums over units, (m,) each.

    It is symmetric on the logarithm, with the variance of the ratio estimator
    (Cochran, "Sampling Techniques", 1977, section 6.3).
    """
    m, total = len(below), below.sum()
    value = above.sum() / total if total else 0.0
    variance = m / (m - 1) * np.square(above - value * below).sum()
    if not value or not variance:
        return SAME
    factor = np.exp(student(m - 1) * variance**0.5 / (total * value))
    return Interval(value / factor, value * factor, "log")


def _too_one_sided(predictions: Predictions, units: Units) -> Undefined | None:
    """Return a reason if too few units are not of the most frequent class."""
    if predictions.task == "multilabel":
        few = Undefined(f"fewer than {FEW} {units.noun}")
        return few if units.size < FEW else None
    largest = int(np.bincount(predictions.labels).argmax())
    (others,) = units.having(predictions.labels[:, None] != largest)
    return scarcity(predictions.class_names[largest], FEW, others, units)


NO_CHANCE = Undefined("every predicted probability is 0")


class Ratios(Measure):
    """Brier skill score, and in binary tasks the O:E ratio.

    The Brier skill score is 1 - Brier / reference, where the reference gives every
    image the prevalences of the split (Murphy, "Hedging and skill scores for
    probability forecasts", Journal of Applied Meteorology 1973; Kattan and Gerds, "The
    index of prediction accuracy", Diagnostic and Prognostic Research 2018): 1 is
    perfect, 0 no better than the prevalence. The O:E ratio is that of observed to
    expected positives, sum(y) / sum(p) (Debray et al., "A guide to systematic review
    and meta-analysis of prediction model performance", BMJ 2017): above 1,
    probabilities are too low on average.

    Both are ratios of sums over images, with intervals on the ratio's logarithm. That
    the reference's prevalences are those of the same images adds nothing to the
    variance, for they are where it is least.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        prefix: of the keys.
        suffix: added to "brier_skill" and "oe_ratio".
    """

    def __init__(
        self, predictions: Predictions, probs=None, prefix: Key = (), suffix: str = ""
    ):
        probs = predictions.probs if probs is None else probs
        self.images = len(predictions.ids)
        self._predictions = predictions
        self._skill: Key = (*prefix, f"brier_skill{suffix}")
        self._oe: Key = (*prefix, f"oe_ratio{suffix}")
        truth, known = predictions.truth, predictions.known
        share = ratio(truth.sum(axis=0), known.sum(axis=0))
        sums = [(np.square(p - truth) * known).sum(axis=1) for p in (probs, share)]
        # Of a label that nobody gave there is no prevalence.
        self._parts = {self._skill: np.nan_to_num(np.stack(sums, axis=1))}
        if predictions.task == "binary":
            positive = truth[:, 1].astype(np.float64)
            self._parts[self._oe] = np.stack([positive, probs[:, 1]], axis=1)

    def values(self) -> dict[Key, float | Undefined]:
        """Compute both of the split itself."""
        values: dict[Key, float | Undefined] = {}
        for key, parts in self._parts.items():
            above, below = parts.sum(axis=0)
            value = above / below if below else self.reason(key)
            if key == self._skill and below:
                value = 1 - above / below
            values[key] = value
        return values

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Return nothing: intervals are by formula."""
        return {}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals, see the class and `Measure`."""
        reason = _too_one_sided(self._predictions, units)
        if reason is not None:
            return dict.fromkeys(self._parts, reason)
        intervals = {}
        for key, parts in self._parts.items():
            interval = _ratio_interval(*units.sums(parts).T)
            if key == self._skill and isinstance(interval, Interval):
                interval = Interval(1 - interval.high, 1 - interval.low, "log")
            intervals[key] = interval
        return intervals

    def reason(self, key: Key) -> Undefined:
        """Return why a ratio of the whole split is undefined."""
        if key == self._oe:
            return NO_CHANCE
        return ONE_CLASS if self._predictions.known.any() else NO_LABEL


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
        yes, no = (self._logit[self._positive == label] for label in (1, 0))
        if yes.min() >= no.max() or yes.max() <= no.min():
            return SEPARATED
        design = np.stack([np.ones(self.images), self._logit], axis=1)
        return _fit(design, self._positive, np.zeros(self.images))

    def values(self) -> dict[Key, float | Undefined]:
        """Compute both of the split itself."""
        return {
            key: fit if isinstance(fit, Undefined) else fit[0]
            for key, fit in self._fits.items()
        }

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Return nothing: intervals are by formula."""
        return {}

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the intervals, see the class and `Measure`."""
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
        """Return why intercept or slope is undefined."""
        fit = self._fits[key]
        return fit if isinstance(fit, Undefined) else ONE_CLASS


def _fit(
    design: np.ndarray, positive: np.ndarray, offset: np.ndarray
) -> tuple[float, np.ndarray] | Undefined:
    """Fit a logistic regression by Newton's method.

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
