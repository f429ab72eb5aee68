"""One number per arm, and the differences between arms."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxmed.report.comparison import COMPARED, Comparison
from jaxmed.report.forest import Line
from jaxmed.report.records import Arm
from jaxmed.report.tables import (
    Cell,
    Table,
    estimate,
    estimate_names,
    estimate_table,
    metric_title,
    number,
    transpose,
    word,
)

# More arms than this do not fit on a page side by side.
MANY_ARMS = 5


def summary_table(comparison: Comparison) -> Table:
    """The metrics of the test split: a column per arm, or a row where arms are many."""
    arms = comparison.arms
    known = estimate_names(arms[0].first.metrics["test"])
    names = [*COMPARED, *(name for name in known if name not in COMPARED)]
    rows = {
        arm.name: {name: comparison.estimate(arm, "test", name) for name in names}
        for arm in arms
    }
    images = arms[0].first.metrics["test"]["n"]
    caption = f"Test split, {images:,} images"
    table = estimate_table(caption, rows, "arm")
    if len(arms) > MANY_ARMS:
        return table
    table = transpose(table, "")
    if all(len(arm.runs) == 1 for arm in arms):
        return table
    spreads = tuple(_spread_row(comparison, metric) for metric in COMPARED)
    return replace(table, rows=table.rows + spreads)


def _spread_row(comparison: Comparison, metric: str) -> tuple[Cell, ...]:
    """The standard deviation over seeds, arm by arm."""
    found = (comparison.estimate(arm, "test", metric) for arm in comparison.arms)
    name = word(f"{metric_title(metric)}, SD over seeds")
    return (name, *(number(one.get("std"), digits=4) for one in found))


def differences_table(comparison: Comparison) -> Table:
    """A row per arm but the first: its difference from the first, by metric."""
    arms, rows = comparison.arms, []
    for arm in arms[1:]:
        found = [comparison.difference(arm, arms[0], metric) for metric in COMPARED]
        rows.append((word(arm.name), *(estimate(one, sign=True) for one in found)))
    return Table(
        caption=f"Difference from {arms[0].name}, paired by image",
        head=("arm", *map(metric_title, COMPARED)),
        rows=tuple(rows),
    )


def summary_lines(comparison: Comparison, metric: str) -> list[Line]:
    """The lines of the forest plot of one metric."""
    lines = []
    for index, arm in enumerate(comparison.arms):
        found = comparison.estimate(arm, "test", metric)
        lines.append(make_line(index, arm.name, found, _seeds(arm, metric)))
    return lines


def difference_lines(comparison: Comparison, metric: str) -> list[Line]:
    """The lines of the forest plot of the differences from the first arm."""
    first, lines = comparison.arms[0], []
    for index, arm in enumerate(comparison.arms[1:], 1):
        found = comparison.difference(arm, first, metric)
        lines.append(make_line(index, f"{arm.name} − {first.name}", found))
    return lines


def class_lines(comparison: Comparison, metric: str) -> dict[str, list[Line]]:
    """The lines of the forest plot of one metric, class by class."""
    lines: dict[str, list[Line]] = {}
    for index, arm in enumerate(comparison.arms):
        for name, found in arm.first.metrics["per_class"]["test"].items():
            line = make_line(index, arm.name, found.get(metric, {}))
            lines.setdefault(name, []).append(line)
    return lines


def make_line(
    index: int, name: str, found: Mapping[str, Any], seeds: tuple[float, ...] = ()
) -> Line:
    """A line of a forest plot from an estimate; see `Line`."""
    return Line(
        name=name,
        index=index,
        value=found.get("value"),
        low=found.get("ci_low"),
        high=found.get("ci_high"),
        seeds=seeds,
    )


def _seeds(arm: Arm, metric: str) -> tuple[float, ...]:
    values = (run.metrics["test"].get(metric, {}).get("value") for run in arm.runs)
    return tuple(value for value in values if value is not None)
