"""Estimates per arm and differences between arms, each computed once."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

from jaxmed.errors import InputError
from jaxmed.evaluation import arm_summary
from jaxmed.evaluation.comparison.arms import (
    adjust,
    enough_for,
    overall_keys,
)
from jaxmed.evaluation.comparison.paired import Paired
from jaxmed.evaluation.intervals.bootstrap import Bootstrap
from jaxmed.evaluation.intervals.estimate import Key
from jaxmed.evaluation.metrics.registry import METRICS, is_of_decisions
from jaxmed.evaluation.predictions import Predictions
from jaxmed.report.tables.formatting import AT_HALF
from jaxmed.runs.record import Arm

COMPARED = ("auroc", "accuracy")
"""The metrics whose differences are shown, and which get a picture."""
ENDS = ("value", "ci_low", "ci_high")


class Comparison:
    """The arms of an experiment and their numbers.

    Decisions on the test split are those at each run's own threshold, chosen on val,
    in binary and multi-label tasks; else the most probable class.

    Args:
        arms: the first is the one that the others are compared with.
    """

    def __init__(self, arms: Sequence[Arm]):
        self.arms: tuple[Arm, ...] = tuple(arms)
        self._estimates: dict[tuple[str, ...], dict[str, Any]] = {}
        self._families: dict[str, dict[str, dict[str, Any]]] = {}
        self._alone: dict[str, Paired] = {}
        intervals = arms[0].first.metrics.get("intervals", {})
        self._bootstrap = {
            name: intervals[name] for name in ("resamples", "seed") if name in intervals
        }

    @property
    def has_thresholds(self) -> bool:
        """Return whether decisions are at thresholds that were chosen on val."""
        return self.arms[0].first.task in ("binary", "multilabel")

    @property
    def several_seeds(self) -> bool:
        """Return whether an arm was trained more than once."""
        return any(len(arm.runs) > 1 for arm in self.arms)

    def estimate(self, arm: Arm, split: str, metric: str) -> dict[str, Any]:
        """Estimate one metric of an arm.

        With several seeds it is their mean, with the intervals of `Paired.summary`.

        Args:
            arm: one of the arms.
            split: "val" or "test".
            metric: as `overall_keys` and metrics.json call it, at the run's threshold
                on test; one that ends in `AT_HALF` is as decided at 0.5.

        Returns:
            {"value", "ci_low", "ci_high"}, or None for them and a "reason".
        """
        key = (arm.name, split, metric)
        if key not in self._estimates:
            self._estimates[key] = self._estimate(arm, split, metric)
        return self._estimates[key]

    def difference(self, arm: Arm, other: Arm, metric: str) -> dict[str, Any]:
        """Estimate how much higher an arm's test metric is than another's.

        Args:
            arm, other: one of them is the first arm.
            metric: one of `COMPARED`.

        Returns:
            As `Paired.difference`, with p values adjusted for the number of arms that
            are compared with the first one; arms that were tested on different images
            have a reason instead of a value.
        """
        first = self.arms[0]
        if arm is first:
            return _mirrored(self.difference(other, first, metric))
        assert other is first, other.name
        if metric not in self._families:
            differences = {
                compared.name: self._difference(compared, metric)
                for compared in self.arms[1:]
            }
            adjust([*differences.values()])
            self._families[metric] = differences
        return self._families[metric][arm.name]

    def _difference(self, arm: Arm, metric: str) -> dict[str, Any]:
        if isinstance(self._paired, InputError):
            none = {"p": None, "test": None, "another_training": {"p": None}}
            return _missing(str(self._paired)) | none
        return self._paired.difference(arm.name, self.arms[0].name, (metric,))

    def _estimate(self, arm: Arm, split: str, metric: str) -> dict[str, Any]:
        name = metric.removesuffix(AT_HALF)
        stored = [run.metrics.get(split, {}) for run in arm.runs]
        at_threshold = self.has_thresholds and split == "test" and name == metric
        # Sensitivity and its like are metrics of the threshold alone.
        if at_threshold and (is_of_decisions(name) or name not in stored[0]):
            stored = [run.metrics["test_at_threshold"] for run in arm.runs]
        per_run = [entry.get(name) for entry in stored]
        defined = [
            entry for entry in per_run if isinstance(entry, dict) and "value" in entry
        ]
        if len(arm.runs) == 1 and defined:
            return defined[0]
        if split == "test" and metric in self._keys:
            return self._summary(arm, self._keys[metric])
        if len(defined) < len(per_run):
            return _missing(f"no {split} {metric} in metrics.json")
        if name in METRICS and split in arm.first.predictions:
            predictions = [run.predictions[split] for run in arm.runs]
            return arm_summary(predictions, name, **self._bootstrap)
        values = [entry["value"] for entry in defined]
        if None in values:
            return _missing("undefined for one seed")
        return {"value": fmean(values), "ci_low": None, "ci_high": None}

    def _summary(self, arm: Arm, key: Key) -> dict[str, Any]:
        if not isinstance(self._paired, InputError):
            return self._paired.summary(arm.name, key)
        if arm.name not in self._alone:
            self._alone[arm.name] = self._pair([arm])
        return self._alone[arm.name].summary(arm.name, key)

    @cached_property
    def _keys(self) -> Mapping[str, Key]:
        return compared_keys(self.arms[0].first.predictions["test"])

    @cached_property
    def _paired(self) -> Paired | InputError:
        """Pair all arms on the same images, or return why that is impossible."""
        try:
            return self._pair(self.arms)
        except InputError as error:
            return error

    def _pair(self, arms: Sequence[Arm]) -> Paired:
        bootstrap = enough_for(len(self.arms) - 1, Bootstrap(**self._bootstrap))
        scored = {arm.name: [run.scored for run in arm.runs] for arm in arms}
        return Paired(scored, [*self._keys.values()], bootstrap)


def compared_keys(test: Predictions) -> dict[str, Key]:
    """Return the keys of metrics with a mean over seeds, predictive values included."""
    keys = overall_keys(test)
    if test.task == "binary":
        positive = test.class_names[1]
        keys["ppv"] = ("per_class", positive, "precision")
        keys["npv"] = ("per_class", positive, "npv")
    return keys


def _mirrored(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Negate a difference: b - a from a - b."""
    turned = dict(difference)
    for name in ("another_training", "delong"):
        if name in difference:
            turned[name] = _mirrored(difference[name])
    value, low, high = (difference.get(end) for end in ENDS)
    ends = {"value": value, "ci_low": high, "ci_high": low}
    for name, end in ends.items():
        if name in difference:
            turned[name] = None if end is None else -end
    if "only_a" in difference:
        turned |= {"only_a": difference["only_b"], "only_b": difference["only_a"]}
    return turned


def _missing(reason: str) -> dict[str, Any]:
    return {"value": None, "ci_low": None, "ci_high": None, "reason": reason}
