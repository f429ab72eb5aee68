"""Published numbers beside the measured ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxmed.evaluation.comparison.arms import DECIDED
from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.tables.formatting import (
    AT_HALF,
    Cell,
    Table,
    estimate,
    metric_title,
    number,
    word,
)
from jaxmed.runs.record import Arm

Expected = Mapping[str, Any]
"""{"arm": ..., "metric": ..., "value": a number or one per epoch, "source": ...}."""


def published_table(comparison: Comparison, expected: Sequence[Expected]) -> Table:
    """A row per published number: published, measured, difference, source."""
    by_name = {arm.name: arm for arm in comparison.arms}
    rows = []
    for entry in expected:
        arm, value = by_name.get(entry["arm"]), entry["value"]
        if arm is None:
            triple = (_series(value), Cell(text="–", note="not run"), Cell(text="–"))
        elif isinstance(value, Sequence):
            triple = _by_epoch(arm, entry["metric"], value)
        else:
            triple = _at_chosen(comparison, arm, entry["metric"], value)
        name = word(entry["arm"])
        metric = word(_metric_words(comparison, entry))
        # Left-aligned all: most are lists of numbers.
        triple = (replace(cell, words=True) for cell in triple)
        rows.append((name, metric, *triple, word(entry.get("source", ""))))
    return Table(
        caption="By arm and metric",
        head=("arm", "metric", "published", "measured", "difference", "source"),
        rows=tuple(rows),
        note="Values by epoch come from the training history of the lowest seed, the "
        "others from the weights of the chosen epoch. Intervals are 95 %.",
    )


def published_curves(arm: str, expected: Sequence[Expected]) -> dict[str, list[float]]:
    """The published values by epoch of one arm, by column of history.csv."""
    return {
        entry["metric"]: list(entry["value"])
        for entry in expected
        if entry["arm"] == arm and isinstance(entry["value"], Sequence)
    }


def _by_epoch(arm: Arm, column: str, values: Sequence[float]) -> tuple[Cell, ...]:
    history = arm.first.history
    measured = [row[column] for row in history if row[column] == row[column]]
    if not measured:
        missing = Cell(text="–", note=f"history.csv has no {column}")
        return _series(values), missing, Cell(text="–")
    pairs = list(zip(measured, values, strict=False))
    worst = max((ours - theirs for ours, theirs in pairs), key=abs)
    difference = number(worst, sign=True)
    widest = Cell(text=f"largest {difference.text}", exact=worst)
    return _series(values), _series(measured), widest


def _at_chosen(
    comparison: Comparison, arm: Arm, metric: str, value: float
) -> tuple[Cell, ...]:
    measured = estimate(comparison.estimate(arm, *_stored(comparison, metric)))
    if measured.exact is None:
        return number(value), measured, Cell(text="–")
    return number(value), measured, number(measured.exact - value, sign=True)


def _series(value: float | Sequence[float]) -> Cell:
    if not isinstance(value, Sequence):
        return number(value)
    return word(" ".join(f"{one:.3f}" for one in value))


def _stored(comparison: Comparison, metric: str) -> tuple[str, str]:
    """Split and metric as metrics.json has them: "test_accuracy" is at 0.5 there."""
    split, _, name = metric.partition("_")
    by_threshold = comparison.has_thresholds and split == "test" and name in DECIDED
    return split, f"{name}{AT_HALF}" if by_threshold else name


def _metric_words(comparison: Comparison, entry: Expected) -> str:
    if isinstance(entry["value"], Sequence) or "_" not in entry["metric"]:
        split, _, name = entry["metric"].partition("_")
    else:
        split, name = _stored(comparison, entry["metric"])
    return f"{split} {metric_title(name)}" if name else split
