"""Decision thresholds, chosen on validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import (
    Interval,
    Key,
    Measure,
    Undefined,
    levels,
)
from jaxmed.evaluation.metrics.classification import MANY
from jaxmed.evaluation.metrics.counts import ALL_IMAGES, NO_IMAGE, ratio
from jaxmed.evaluation.metrics.operating_points import OperatingPoints
from jaxmed.evaluation.predictions import Predictions

METHODS = ("youden", "sensitivity", "specificity", "cost", "f1", "0.5")
# The least float32 that no probability reaches: nothing is decided to be positive.
NO_ONE = 1 + 2.0**-23
# Differences below this are rounding: all that is compared is a ratio of counts.
TIE = 1e-12


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """How a threshold is chosen; the decision is `score >= threshold`.

    Among equals the highest threshold is taken, which has the fewest false positives.

    Attributes:
        method: "youden", the largest sensitivity + specificity - 1 (Youden, "Index for
            rating diagnostic tests", Cancer 1950); "sensitivity", the highest
            threshold with at least the target; "specificity", the most sensitive one
            with at least the target; "cost", the least expected cost (Metz, "Basic
            principles of ROC analysis", 1978), `NO_ONE` where deciding that nothing is
            positive costs no more than any other threshold; "f1", the largest F1; or
            "0.5".
        target: sensitivity or specificity to reach, in (0, 1].
        cost: of a missed positive, if a false alarm costs 1.
        prevalence: share of positives, in (0, 1), that costs are expected at; None for
            that of the split.

    Raises:
        InputError: anything of the above does not hold.
    """

    method: str = "youden"
    target: float = 0.9
    cost: float = 1.0
    prevalence: float | None = None

    def __post_init__(self):
        if self.method not in METHODS:
            raise unknown("threshold", self.method, METHODS)
        if not 0 < self.target <= 1:
            raise InputError(
                f"The target of a threshold must be in (0, 1], got {self.target}."
            )
        if not 0 < self.cost < np.inf:
            raise InputError(
                f"The cost of a missed positive must be above 0, got {self.cost}."
            )
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise InputError(
                f"The prevalence must be in (0, 1), got {self.prevalence}."
            )

    def used(self) -> dict[str, float]:
        """Return the parameters that the method uses, for metrics.json."""
        if self.method in ("sensitivity", "specificity"):
            return {"target": self.target}
        if self.method != "cost":
            return {}
        at = {} if self.prevalence is None else {"prevalence": self.prevalence}
        return {"cost": self.cost} | at

    def choose(self, points: OperatingPoints, counts: np.ndarray) -> np.ndarray:
        """Choose a threshold in each resample.

        Args:
            points: of the scores.
            counts: float64 (n, resamples).

        Returns:
            float64 (resamples,), NaN where no threshold can be chosen.
        """
        resamples = counts.shape[1]
        if self.method == "0.5":
            return np.full(resamples, 0.5)
        if not len(points.thresholds):
            return np.full(resamples, np.nan)
        true, false, positives, negatives = points(counts)
        sensitivity, alarms = ratio(true, positives), ratio(false, negatives)
        gain = self._gain(sensitivity, alarms, positives, negatives)
        # The score of a positive that was not drawn is no candidate.
        gain[true == 0] = -np.inf
        best = gain.max(axis=0)
        possible = (positives > 0) & (negatives > 0) & (best > -np.inf)
        index = np.argmax(gain >= best - TIE, axis=0)
        chosen = points.thresholds[index]
        if self.method == "cost":
            # The gain is over deciding that nothing is positive.
            chosen = np.where(best > TIE, chosen, NO_ONE)
        return np.where(possible, chosen, np.nan)

    def _gain(self, sensitivity, alarms, positives, negatives) -> np.ndarray:
        """Compute the criterion to maximize: (thresholds, resamples)."""
        if self.method == "youden":
            return sensitivity - alarms
        if self.method == "sensitivity":
            return np.minimum(sensitivity, self.target)
        if self.method == "specificity":
            return np.where(1 - alarms >= self.target - TIE, sensitivity, -np.inf)
        if self.method == "f1":
            true, false = sensitivity * positives, alarms * negatives
            return ratio(2 * true, true + false + positives)
        share = self.prevalence
        if share is None:
            share = positives / (positives + negatives)
        return self.cost * share * sensitivity - (1 - share) * alarms


def read_rule(described: Mapping[str, Any]) -> ThresholdRule:
    """Rebuild a rule from "threshold" of metrics.json."""
    names = ("target", "cost", "prevalence")
    options = {name: described[name] for name in names if name in described}
    return ThresholdRule(method=described["method"], **options)


class ThresholdChoice(Measure):
    """The threshold of each class against the rest, and how stable it is.

    Keys are ("threshold", class name); in binary tasks of the positive class only.

    Args:
        predictions: of the validation split.
        rule: how to choose.
    """

    def __init__(self, predictions: Predictions, rule: ThresholdRule):
        self.images = len(predictions.ids)
        self._rule = rule
        first = 1 if predictions.task == "binary" else 0
        self._names = predictions.class_names[first:]
        self._truth = predictions.truth[:, first:]
        self._known = predictions.known[:, first:]
        self._scores = predictions.probs[:, first:]
        self._points = None
        if len(self._names) <= MANY:
            self._points = [self._points_of(i) for i in range(len(self._names))]

    def _points_of(self, i: int) -> OperatingPoints:
        images = np.flatnonzero(self._known[:, i])
        truth, scores = self._truth[images, i], self._scores[images, i]
        return OperatingPoints(truth, scores, images, self.images)

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Choose the thresholds of resamples, see `Measure`."""
        points = self._points
        if points is None:
            # One after the other: all at once would fill gigabytes.
            points = (self._points_of(i) for i in range(len(self._names)))
        return {
            ("threshold", name): self._rule.choose(class_points, counts)
            for name, class_points in zip(self._names, points, strict=True)
        }

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Compute the interval of the thresholds chosen in resamples, see `Measure`.

        It says how stable the choice is; that all resamples choose alike is no flaw.
        """
        intervals: dict[Key, Interval | Undefined] = {}
        for name in self._names:
            chosen = samples["threshold", name]
            chosen = chosen[~np.isnan(chosen)]
            if len(chosen):
                ends = np.quantile(chosen, levels(units.size))
                intervals["threshold", name] = Interval(*ends)
        return intervals

    def reason(self, key: Key) -> Undefined:
        """Return why no threshold can be chosen."""
        i = self._names.index(key[-1])
        true, known = self._truth[:, i].sum(), self._known[:, i].sum()
        if not true:
            return NO_IMAGE
        if true == known:
            return ALL_IMAGES
        return Undefined(f"no threshold has a specificity of {self._rule.target}")


def choose_thresholds(
    predictions: Predictions, rule: ThresholdRule | None = None
) -> dict[str, float | Undefined]:
    """Choose a threshold for each class against the rest.

    Args:
        predictions: of the validation split.
        rule: by default Youden's.

    Returns:
        By class name; in binary tasks of the positive class only. Undefined if all
        images are of one class.

    Examples:
        >>> from jaxmed.evaluation import Predictions
        >>> scores = np.array([0.1, 0.2, 0.4, 0.6, 0.7, 0.9])
        >>> val = Predictions(
        ...     split="val",
        ...     ids=tuple("abcdef"),
        ...     labels=np.array([0, 0, 1, 0, 1, 1]),
        ...     probs=np.stack([1 - scores, scores], axis=1),
        ...     class_names=("normal", "pneumonia"),
        ...     task="binary",
        ... )
        >>> choose_thresholds(val)  # Youden: sensitivity 2/3, specificity 1
        {'pneumonia': 0.7}
        >>> choose_thresholds(val, ThresholdRule(method="sensitivity", target=1.0))
        {'pneumonia': 0.4}
    """
    choice = ThresholdChoice(predictions, rule or ThresholdRule())
    return {key[-1]: value for key, value in choice.values().items()}
