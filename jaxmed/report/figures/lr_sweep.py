"""The picture of learning-rate range tests: the loss over the rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    INK,
    WIDTH,
    label,
    spell_rate,
    styled,
)

COLUMNS = 3
HEIGHT = 2.4
"""Inches per row of panels."""
MARKS = (("steepest", COLORS[1], "--", "^"), ("valley", COLORS[2], "-", "D"))
"""Suggestions: name, color, line and marker; color is never the only difference."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One range test.

    Attributes:
        title: whose rate rises.
        rates: (n,), rising, above 0.
        losses: (n,), finite.
        smoothed: (n,), the same smoothed.
        own: the recipe's rate; 0 is not drawn.
        steepest, valley: suggestions; None is not drawn.
        note: a sentence, shown where there is no suggestion.
    """

    title: str
    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    own: float
    steepest: float | None
    valley: float | None
    note: str = ""


@styled
def draw_range_tests(panels: Sequence[Panel], title: str) -> Figure:
    """Draws a panel per test, all with the same range of rates.

    Args:
        panels: at least one, in the order of reading.
        title: of the whole.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 1), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    ends = np.array([[panel.rates[0], panel.rates[-1]] for panel in panels])
    kinds = {}
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_xlim(ends.min() / 1.3, ends.max() * 1.3)
        handles, names = axes.get_legend_handles_labels()
        kinds |= dict(zip(names, handles, strict=True))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    # Those below which there is none.
    for axes in grid[: len(panels)][-columns:]:
        axes.set_xlabel("learning rate (of all groups: the highest)")
    figure.suptitle(label(title, 42 * columns), fontweight="bold", fontsize=10)
    figure.supylabel("loss of the batch", fontsize=9)
    place: dict[str, Any] = {"loc": "outside lower center", "borderaxespad": 0.8}
    figure.legend(kinds.values(), kinds.keys(), ncols=2 if columns == 1 else 5, **place)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    paint = COLORS[0]
    axes.plot(panel.rates, panel.losses, color=paint, linewidth=0.7, alpha=0.7,
              label="loss")  # fmt: skip
    axes.plot(panel.rates, panel.smoothed, color=paint, linewidth=2.2, label="smoothed")
    for name, color, dash, shape in MARKS:
        rate = getattr(panel, name)
        if rate is not None:
            height = np.interp(rate, panel.rates, panel.smoothed)
            axes.axvline(rate, color=color, linestyle=dash, linewidth=1.2)
            mark = {"marker": shape, "markersize": 7, "markeredgecolor": "w"}
            axes.plot(rate, height, color=color, linestyle=dash, **mark, label=name)
    if panel.own > 0:
        axes.axvline(panel.own, color=INK, linestyle=":", label="the recipe's rate")
    axes.set(xscale="log", ylim=_limits(panel))
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_major_formatter(lambda rate, _: spell_rate(rate))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(label(panel.title, 40), pad=16)
    rates = ((name, getattr(panel, name)) for name, *_ in MARKS)
    said = ", ".join(f"{name} {spell_rate(rate)}" for name, rate in rates if rate)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(said or panel.note, (0, 1), (0, 4), color=GRAY, fontsize=8, **place)


def _limits(panel: Panel) -> tuple[float, float]:
    """Holds the losses up to the lowest; those that diverge may leave the panel."""
    before = panel.losses[: panel.smoothed.argmin() + 1]
    low, high = panel.losses.min(), before.max()
    span = max(high - low, 0.01 * high)
    return low - 0.1 * span, high + 0.5 * span
