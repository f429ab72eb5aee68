"""Tables of results: metrics of the arms, their differences, published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxmed.config.published import Expectation
from jaxmed.evaluation.metrics.registry import is_of_decisions
from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.figures.forest import Line
from jaxmed.report.tables.formatting import (
    AT_HALF,
    INTERVALS,
    Cell,
    Table,
    annotated,
    estimate,
    estimate_names,
    estimate_table,
    metric_title,
    number,
    p_cell,
    transpose,
    word,
)
from jaxmed.report.text.headline import with_test_interval
from jaxmed.runs.record import Arm

# More arms than this do not fit on a page side by side.
MANY_ARMS = 5


def summary_table(comparison: Comparison) -> Table:
    """Tabulate test metrics: a column per arm, or a row per arm where arms are many.

    Decisions are at the thresholds chosen on val, where there are some, and accuracy at
    0.5 is beside them.
    """
    arms = comparison.arms
    known = estimate_names(arms[0].first.metrics["test"])
    names = [*COMPARED, *(name for name in known if name not in COMPARED)]
    if comparison.has_thresholds:
        names.insert(len(COMPARED), f"accuracy{AT_HALF}")
    rows = {
        arm.name: {name: comparison.estimate(arm, "test", name) for name in names}
        for arm in arms
    }
    images = arms[0].first.metrics["test"]["n"]
    caption = f"Test split, {images:,} images"
    table = annotated(estimate_table(caption, rows, "arm"), _which(comparison))
    if len(arms) > MANY_ARMS:
        return table
    table = transpose(table, "")
    if not comparison.several_seeds:
        return table
    spreads = tuple(_spread_row(comparison, metric) for metric in COMPARED)
    return replace(table, rows=table.rows + spreads)


def _which(comparison: Comparison) -> str:
    """Explain the two kinds of intervals, and the thresholds of decisions."""
    sentences = [INTERVALS] if comparison.several_seeds else []
    if comparison.has_thresholds:
        sentences.append(
            "Decisions are at each run's threshold, chosen on val, unless stated "
            "otherwise."
        )
    return " ".join(sentences)


def _spread_row(comparison: Comparison, metric: str) -> tuple[Cell, ...]:
    """Return the row of standard deviations over seeds, arm by arm."""
    entry = (comparison.estimate(arm, "test", metric) for arm in comparison.arms)
    name = word(f"{metric_title(metric)}, SD over seeds")
    return (name, *(number(summary.get("std"), digits=4) for summary in entry))


def differences_table(comparison: Comparison) -> Table:
    """Tabulate differences from the first arm, and their tests: a row per other arm."""
    arms, rows = list(comparison.arms), []
    several, head = comparison.several_seeds, ["arm"]
    p = "p (Holm)" if len(arms) > 2 else "p"
    for metric in COMPARED:
        title = metric_title(metric)
        head += [title, f"{title}, {p}"]
        head += [f"{title}, {p}, retrained"] if several else []
    for arm in arms[1:]:
        row = [word(arm.name)]
        for metric in COMPARED:
            entry = comparison.difference(arm, arms[0], metric)
            row += [estimate(with_test_interval(entry), sign=True), p_cell(entry)]
            row += [p_cell(entry["another_training"])] if several else []
        rows.append(tuple(row))
    note = "p: two-sided, for these models on other images"
    note += "; retrained: for retrained models." if several else "."
    if len(arms) > 2:
        note += f" Adjusted by Holm for {len(arms) - 1} comparisons."
    table = Table(
        caption=f"Difference from {arms[0].name}, paired by image",
        head=tuple(head),
        rows=tuple(rows),
    )
    return annotated(table, f"{INTERVALS} {note}" if several else note)


def summary_lines(comparison: Comparison, metric: str) -> list[Line]:
    """Return the lines of the forest plot of one metric."""
    lines = []
    for index, arm in enumerate(comparison.arms):
        entry = comparison.estimate(arm, "test", metric)
        lines.append(make_line(index, arm.name, entry, _seeds(arm, metric)))
    return lines


def difference_lines(comparison: Comparison, metric: str) -> list[Line]:
    """Return the lines of the forest plot of the differences from the first arm."""
    first, lines = comparison.arms[0], []
    for index, arm in enumerate(comparison.arms[1:], 1):
        entry = comparison.difference(arm, first, metric)
        lines.append(make_line(index, f"{arm.name} − {first.name}", entry))
    return lines


def class_lines(comparison: Comparison, metric: str) -> dict[str, list[Line]]:
    """Return the lines of the forest plot of one metric, class by class."""
    lines: dict[str, list[Line]] = {}
    for index, arm in enumerate(comparison.arms):
        for name, entry in arm.first.metrics["per_class"]["test"].items():
            line = make_line(index, arm.name, entry.get(metric, {}))
            lines.setdefault(name, []).append(line)
    return lines


def make_line(
    index: int, name: str, entry: Mapping[str, Any], seeds: tuple[float, ...] = ()
) -> Line:
    """Convert an estimate to a line of a forest plot; see `Line`."""
    entry = with_test_interval(entry)
    return Line(
        name=name,
        index=index,
        value=entry.get("value"),
        low=entry.get("ci_low"),
        high=entry.get("ci_high"),
        again=_ends(entry.get("another_training") or {}),
        seeds=seeds,
    )


def _ends(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = entry.get("ci_low"), entry.get("ci_high")
    return None if low is None or high is None else (low, high)


def _seeds(arm: Arm, metric: str) -> tuple[float, ...]:
    """Compute the values of an arm's seeds, with the decision rule of their mean."""
    alone = (Comparison([Arm(name=arm.name, runs=(run,))]) for run in arm.runs)
    values = (
        single.estimate(single.arms[0], "test", metric)["value"] for single in alone
    )
    return tuple(value for value in values if value is not None)


def published_table(comparison: Comparison, expected: Sequence[Expectation]) -> Table:
    """Tabulate published numbers: published, measured, difference, source."""
    by_name = {arm.name: arm for arm in comparison.arms}
    rows = []
    for entry in expected:
        arm, value = by_name.get(entry.arm), entry.value
        if arm is None:
            triple = (_series(value), Cell(text="–", note="not run"), Cell(text="–"))
        elif isinstance(value, Sequence):
            triple = _by_epoch(arm, entry.metric, value)
        else:
            triple = _at_chosen(comparison, arm, entry.metric, value)
        name = word(entry.arm)
        metric = word(_metric_words(comparison, entry))
        # Left-aligned all: most are lists of numbers.
        triple = (replace(cell, words=True) for cell in triple)
        rows.append((name, metric, *triple, word(entry.source)))
    return Table(
        caption="By arm and metric",
        head=("arm", "metric", "published", "measured", "difference", "source"),
        rows=tuple(rows),
        note="Values by epoch come from the training history of the lowest seed, the "
        "others from the weights of the selected epoch. Intervals are 95 %.",
    )


def published_curves(
    arm: str, expected: Sequence[Expectation]
) -> dict[str, list[float]]:
    """Return the published values by epoch of one arm, by column of history.csv."""
    return {
        entry.metric: list(entry.value)
        for entry in expected
        if entry.arm == arm and isinstance(entry.value, Sequence)
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
    return word(" ".join(f"{item:.3f}" for item in value))


def _stored(comparison: Comparison, metric: str) -> tuple[str, str]:
    """Return split and metric of metrics.json, where "test_accuracy" is at 0.5."""
    split, _, name = metric.partition("_")
    by_threshold = comparison.has_thresholds and split == "test"
    by_threshold = by_threshold and is_of_decisions(name)
    return split, f"{name}{AT_HALF}" if by_threshold else name


def _metric_words(comparison: Comparison, entry: Expectation) -> str:
    if isinstance(entry.value, Sequence) or "_" not in entry.metric:
        split, _, name = entry.metric.partition("_")
    else:
        split, name = _stored(comparison, entry.metric)
    return f"{split} {metric_title(name)}" if name else split
