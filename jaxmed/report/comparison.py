"""Estimates per arm and between arms, each computed once."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from jaxmed.errors import InputError
from jaxmed.evaluation import arm_summary, paired_difference
from jaxmed.evaluation.comparison import MEASURES
from jaxmed.report.records import Arm

COMPARED = ("auroc", "accuracy")
"""The metrics whose differences are shown, and which get a picture."""


class Comparison:
    """The arms of an experiment and their numbers.

    Args:
        arms: the first is the one that the others are compared with.
    """

    def __init__(self, arms: Sequence[Arm]):
        self.arms = tuple(arms)
        self._found: dict[tuple[str, ...], dict[str, Any]] = {}
        intervals = arms[0].first.metrics.get("intervals", {})
        self._bootstrap = {
            name: intervals[name] for name in ("resamples", "seed") if name in intervals
        }

    def estimate(self, arm: Arm, split: str, metric: str) -> dict[str, Any]:
        """One number of an arm, as metrics.json has it.

        With several seeds it is their mean, and the interval is that of the mean.

        Returns:
            {"value", "ci_low", "ci_high"}, or None for them and a "reason".
        """
        key = (arm.name, split, metric)
        if key not in self._found:
            self._found[key] = self._estimate(arm, split, metric)
        return self._found[key]

    def difference(self, arm: Arm, other: Arm, metric: str) -> dict[str, Any]:
        """How much higher an arm's test metric is than another's, paired by image.

        Returns:
            As `estimate`; arms that were tested on different images have a reason
            instead of a value.
        """
        key = (arm.name, other.name, "test", metric)
        if key not in self._found:
            a, b = ([r.predictions["test"] for r in one.runs] for one in (arm, other))
            try:
                found = paired_difference(a, b, metric, **self._bootstrap)
            except InputError as error:
                found = _missing(str(error))
            self._found[key] = found
        return self._found[key]

    def _estimate(self, arm: Arm, split: str, metric: str) -> dict[str, Any]:
        each = [run.metrics.get(split, {}).get(metric) for run in arm.runs]
        if split == "test" and each[0] is None:
            # Sensitivity and its like are metrics of the threshold.
            each = [run.metrics["test_at_threshold"].get(metric) for run in arm.runs]
        found = [one for one in each if isinstance(one, dict) and "value" in one]
        if len(found) < len(each):
            return _missing(f"no {split} {metric} in metrics.json")
        if len(found) == 1:
            return found[0]
        if metric in MEASURES and split in arm.first.predictions:
            predictions = [run.predictions[split] for run in arm.runs]
            return arm_summary(predictions, metric, **self._bootstrap)
        values = [one["value"] for one in found]
        if None in values:
            return _missing("undefined for one seed")
        return {"value": fmean(values), "ci_low": None, "ci_high": None}


def _missing(reason: str) -> dict[str, Any]:
    return {"value": None, "ci_low": None, "ci_high": None, "reason": reason}
