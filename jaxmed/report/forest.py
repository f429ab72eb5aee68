"""Forest plots: values with their intervals, one line per arm."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from jaxmed.report.style import GREY, color, label, marker, new_figure, spell

ROW = 0.5
"""Inches per line of the plot."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a forest plot.

    Attributes:
        name: what is written above it.
        index: the arm's number, which gives colour and marker.
        value: the point; None draws only the name and a dash.
        low: lower end of the interval; None where there is no interval.
        high: upper end.
        seeds: smaller points, one per seed.
    """

    name: str
    index: int
    value: float | None
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()


def draw_forest(
    lines: Sequence[Line], title: str, *, zero: bool = False, bound: bool = True
) -> Figure:
    """Draws values, intervals and seeds.

    Args:
        lines: from top to bottom.
        title: what the values are.
        zero: the values are differences: signs are written and zero is marked.
        bound: the values cannot exceed 1, so neither does the axis.
    """
    figure, (axes,) = new_figure(0.85 + ROW * len(lines))
    axes.set_title(title, pad=10)
    axes.grid(visible=False, axis="y")
    for row, line in enumerate(lines):
        paint, text = color(line.index), spell(line.value, sign=zero)
        if line.low is not None and line.high is not None:
            axes.plot([line.low, line.high], [row, row], color=paint, linewidth=2.2)
            ends = spell(line.low, sign=zero), spell(line.high, sign=zero)
            text = f"{text}  [{ends[0]}, {ends[1]}]"
        if len(line.seeds) > 1:
            below = [row + 0.24] * len(line.seeds)
            axes.plot(line.seeds, below, ".", color=paint, markersize=5, alpha=0.7)
        if line.value is not None:
            point = {"marker": marker(line.index), "markersize": 7.5, "mec": "w"}
            axes.plot(line.value, row, color=paint, **point)
        name = label(line.name, 30)
        for place, words, weight in ((0, name, "bold"), (1, text, "normal")):
            axes.annotate(
                words,
                (place, row - 0.3),
                xycoords=("axes fraction", "data"),
                ha="right" if place else "left",
                va="center",
                fontsize=8.5,
                fontweight=weight,
            )
    axes.set_ylim(len(lines) - 0.5, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    low, high = _range(lines, zero=zero, bound=bound)
    axes.set_xlim(low, high)
    if zero:
        axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    return figure


def _range(lines: Sequence[Line], *, zero: bool, bound: bool) -> tuple[float, float]:
    """A range with some air around all points, and at least 0.02 wide."""
    points = [
        point
        for line in lines
        for point in (line.value, line.low, line.high, *line.seeds)
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
