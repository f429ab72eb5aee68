"""Forest plots: values with their intervals, one line per arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxmed.report.figures.style import (
    GRAY,
    color,
    format_number,
    label,
    legend_below,
    marker,
    new_figure,
    styled,
)

ROW = 0.5
"""Inches per line of the plot."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a forest plot.

    Attributes:
        name: what is written above it.
        index: the arm's number, which gives color and marker.
        value: the point; None draws only the name and a dash.
        low: lower end of the interval; None where there is no interval.
        high: upper end.
        again: the ends of the interval for retrained models, a thin line.
        seeds: smaller points, one per seed.
        faint: little is known: the point is hollow, the interval thin.
    """

    name: str
    index: int
    value: float | None
    low: float | None = None
    high: float | None = None
    again: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    faint: bool = False


@styled
def draw_forest(
    lines: Sequence[Line], title: str, *, zero: bool = False, bound: bool = True
) -> Figure:
    """Draw values, intervals and seeds.

    Args:
        lines: from top to bottom.
        title: what the values are.
        zero: the values are differences: signs are written and zero is marked.
        bound: the values cannot exceed 1, so neither does the axis.
    """
    figure, (axes,) = new_figure(0.85 + ROW * len(lines))
    for row, line in enumerate(lines):
        _draw_line(axes, row, line)
        if len(line.seeds) > 1:
            below, paint = [row + 0.24] * len(line.seeds), color(line.index)
            axes.plot(line.seeds, below, ".", color=paint, markersize=5, alpha=0.7)
        text = format_number(line.value, sign=zero)
        if line.low is not None and line.high is not None:
            low, high = (
                format_number(line.low, sign=zero),
                format_number(line.high, sign=zero),
            )
            text = f"{text}  [{low}, {high}]"
        _write(axes, row - 0.3, label(line.name, 30), text)
    if any(line.again for line in lines):
        title += " (thin: retrained)"
    _finish(axes, title, len(lines), _range(lines, zero=zero, bound=bound))
    if zero:
        axes.axvline(0, color=GRAY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    return figure


@styled
def draw_groups(
    groups: Mapping[str, Sequence[Line]],
    title: str,
    remarks: Mapping[str, str] | None = None,
    marks: Mapping[str, Sequence[Line]] | None = None,
) -> Figure:
    """Draw several lines under one name: the arms, class by class.

    Args:
        groups: lines by the name above them; every group has the same arms.
        title: what the values are.
        remarks: what is written at the right of a name.
        marks: points to compare with, by name, all in one row below the arms.
    """
    remarks, marks = remarks or {}, marks or {}
    lines = [line for group in groups.values() for line in group]
    compared = [line for name in groups for line in marks.get(name, ())]
    arms = len(lines) // len(groups)
    height = 1 + 0.5 * (arms + bool(compared))
    rows = len(groups) * height
    figure, (axes,) = new_figure(1.0 + 0.26 * rows + 0.1 * arms)
    top = 0.0
    for name, group in groups.items():
        remark = remarks.get(name, "")
        _write(axes, top, label(name, 44 - len(remark)), remark)
        for index, line in enumerate(group):
            _draw_line(axes, top + 0.55 + 0.5 * index, line)
        for line in marks.get(name, ()):
            _draw_line(axes, top + 0.55 + 0.5 * arms, line)
        top += height
    _finish(axes, title, rows, _range([*lines, *compared], zero=False, bound=True))
    legend = [replace(line, faint=False) for line in next(iter(groups.values()))]
    legend += {line.name: line for line in compared}.values()
    if len(legend) > 1:
        for line in legend:
            # A published point has no interval, so its sign has no line.
            stroke = "none" if line.faint else "-"
            axes.plot([], [], linestyle=stroke, **_point(line), label=label(line.name))
        legend_below(figure, [axes], columns=min(len(legend), 3))
    return figure


def _point(line: Line) -> dict[str, Any]:
    paint = color(line.index)
    shape = {"marker": marker(line.index), "markersize": 7, "mec": "w"}
    if line.faint:
        shape |= {"mec": paint, "mfc": "white"}
    return {"color": paint, "linewidth": 2, **shape}


def _draw_line(axes: Axes, row: float, line: Line) -> None:
    if line.again is not None:
        axes.plot(line.again, [row, row], "|-", color=color(line.index), linewidth=0.9)
    if line.low is not None and line.high is not None:
        ends = [line.low, line.high]
        width = 0.9 if line.faint else 2.2
        axes.plot(ends, [row, row], color=color(line.index), linewidth=width)
    if line.value is not None:
        axes.plot([line.value], [row], **_point(line), clip_on=False, zorder=3)


def _write(axes: Axes, row: float, left: str, right: str) -> None:
    style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
    # White behind the words, so that no grid line crosses them.
    style |= {"fontsize": 8.5, "bbox": {"fc": "white", "ec": "none", "pad": 1}}
    axes.annotate(left, (0, row), ha="left", fontweight="bold", **style)
    if right:
        axes.annotate(right, (1, row), ha="right", **style)


def _finish(axes: Axes, title: str, rows: float, limits: tuple[float, float]) -> None:
    axes.set_title(title, pad=10)
    axes.grid(visible=False, axis="y")
    axes.set(xlim=limits, ylim=(rows - 0.5, -0.6), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _range(lines: Sequence[Line], *, zero: bool, bound: bool) -> tuple[float, float]:
    """Return axis limits around all points, at least 0.02 apart."""
    points = [
        point
        for line in lines
        for point in (line.value, line.low, line.high, *line.seeds, *(line.again or ()))
        if point is not None
    ]
    if zero:
        points.append(0.0)
    if not points:
        return 0.0, 1.0
    low, high = min(points), max(points)
    air = max(0.06 * (high - low), 0.01)
    top = high + air
    return low - air, min(top, 1.003) if bound and not zero else top
