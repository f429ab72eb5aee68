"""Training curves, and learning-rate range tests."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    INK,
    WIDTH,
    format_rate,
    label,
    legend_below,
    marker,
    new_figure,
    styled,
)
from jaxmed.runs.record import HistoryRow, RunRecord

Limits = tuple[float, float]
Ranges = tuple[Limits, Limits, Limits | None]
"""Of the loss, of the scores, and of the learning rates if these are shown."""

RATE = "lr_"
"""How columns of learning rates begin; the group's name follows."""
DECADES = 6
"""A rate that falls to nothing must not press all others together."""

# Train is always dashed and val solid, whatever the quantity.
LOSSES = (
    ("train_loss", "train loss", COLORS[0], "--"),
    ("val_loss", "val loss", COLORS[0], "-"),
)
SCORES = (
    ("train_accuracy", "train accuracy", COLORS[1], "--"),
    ("val_accuracy", "val accuracy", COLORS[1], "-"),
    ("val_auroc", "val AUROC", COLORS[2], "-"),
)
# None of those above, which stand for something else.
RATE_COLORS = (INK, *COLORS[3:6])


def common_limits(runs: Sequence[RunRecord]) -> Ranges:
    """Compute axis limits for the curves of all `runs`.

    Learning rates are shown, of all runs, if any changes within a phase; else the
    tables have them.
    """
    rows = [row for run in runs for row in run.history]
    losses = _finite(rows, [column for column, *_ in LOSSES])
    scores = _finite(rows, [column for column, *_ in SCORES])
    top = max(losses, default=1.0)
    low = min(scores, default=0.0)
    limits = (0.0, top * 1.06), (max(0.0, low - 0.05), 1.01)
    if not any(map(rates_vary, runs)):
        return *limits, None
    rates = [rate for rate in _finite(rows, _rate_columns(rows)) if rate > 0]
    high = max(rates, default=1.0)
    least = max(min(rates, default=1.0), high / 10**DECADES)
    return *limits, (least / 1.6, high * 1.6)


def rates_vary(run: RunRecord) -> bool:
    """Return whether any learning rate changes within a phase."""
    phases = groupby(run.history, key=lambda row: row.phase)
    return any(
        len(set(_finite(rows, [column]))) > 1
        for rows in (list(group) for _, group in phases)
        for column in _rate_columns(rows)
    )


@styled
def draw_curves(
    run: RunRecord,
    limits: Ranges,
    published: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw one run's history.

    Args:
        run: its history has at least one row.
        limits: from `common_limits`, so that arms side by side can be compared.
        published: published values by epoch, by column; drawn as hollow circles.
    """
    height, ratios = (7.2, (3, 3, 2)) if limits[2] else (5.2, (1, 1))
    figure, panels = new_figure(height, len(ratios), sharex=True, height_ratios=ratios)
    loss, score = panels[:2]
    epochs = np.arange(1, len(run.history) + 1)
    for axes, lines in ((loss, LOSSES), (score, SCORES)):
        for column, name, color, style in lines:
            values = np.array([row[column] for row in run.history])
            if np.isfinite(values).any():
                # A run of one epoch has no line, only its point.
                axes.plot(
                    epochs, values, style, color=color, label=name, marker="o", ms=3
                )
    for column, values in (published or {}).items():
        color = next((c for name, _, c, _ in SCORES if name == column), None)
        if color:
            name = f"published {column.replace('_', ' ')}"
            x = np.arange(1, len(values) + 1)
            score.plot(x, values, "o", color=color, mfc="none", ms=7, label=name)
    loss.set(ylabel="loss", ylim=limits[0])
    score.set(ylabel="accuracy, AUROC", ylim=limits[1])
    if limits[2]:
        _draw_rates(panels[2], run.history, limits[2])
    panels[-1].set_xlabel("epoch")
    score.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    score.set_xlim(0.5, len(epochs) + 0.5)
    _mark_phases(panels, run.history)
    _mark_chosen(panels, run)
    # Below, since no corner is free in every run.
    legend_below(figure, panels, columns=2)
    return figure


def _draw_rates(axes: Axes, history: Sequence[HistoryRow], limits: Limits) -> None:
    axes.set(yscale="log", ylim=limits, ylabel="learning rate")
    axes.yaxis.set_major_formatter(lambda rate, _: format_rate(rate))
    axes.yaxis.set_minor_formatter(NullFormatter())
    columns = _rate_columns(history)
    # The first are the widest, so that those of equal rates show below the others.
    widths = np.linspace(1.2 + 1.2 * min(3, len(columns) - 1), 1.2, len(columns))
    for index, column in enumerate(columns):
        values = np.array([row[column] for row in history])
        axes.plot(
            np.arange(1, len(history) + 1),
            # A logarithm has no place for zero.
            np.where(values > 0, values, np.nan),
            color=RATE_COLORS[index % len(RATE_COLORS)],
            linewidth=widths[index],
            marker=marker(index),
            markersize=2.5 + widths[index],
            label=f"rate of {label(column.removeprefix(RATE), 16)}",
        )


def _mark_phases(axes: Sequence[Axes], history: Sequence[HistoryRow]) -> None:
    """Draw a line where a phase ends and writes the phases' names on top."""
    start = 0
    for phase, rows in groupby(history, key=lambda row: row.phase):
        end = start + len(list(rows))
        if start:
            for ax in axes:
                ax.axvline(start + 0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        share = (end - start) / len(history)
        axes[0].annotate(
            label(phase, max(4, round(36 * share))),
            (start + 0.5 + (end - start) / 2, 1.0),
            xytext=(0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
        )
        start = end


def _mark_chosen(axes: Sequence[Axes], run: RunRecord) -> None:
    if run.best_row is None:
        return
    band: dict[str, Any] = {"color": GRAY, "linewidth": 5, "alpha": 0.25, "zorder": 0}
    for index, ax in enumerate(axes):
        ax.axvline(run.best_row + 1, **band, label=None if index else "selected epoch")


def _rate_columns(rows: Sequence[HistoryRow]) -> list[str]:
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return [column for column in columns if column.startswith(RATE)]


def _finite(rows: Sequence[HistoryRow], columns: Iterable[str]) -> list[float]:
    values = [row[column] for row in rows for column in columns]
    return [value for value in values if math.isfinite(value)]


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
        own: rate of the recipe; 0 is not drawn.
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
    """Draw a panel per test, all with the same range of rates.

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
    entries = {}
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_xlim(ends.min() / 1.3, ends.max() * 1.3)
        handles, names = axes.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    # Those below which there is none.
    for axes in grid[: len(panels)][-columns:]:
        axes.set_xlabel("learning rate (of all groups: the highest)")
    figure.suptitle(label(title, 42 * columns), fontweight="bold", fontsize=10)
    figure.supylabel("loss of the batch", fontsize=9)
    style: dict[str, Any] = {"loc": "outside lower center", "borderaxespad": 0.8}
    figure.legend(
        entries.values(), entries.keys(), ncols=2 if columns == 1 else 5, **style
    )
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
        axes.axvline(panel.own, color=INK, linestyle=":", label="rate of the recipe")
    axes.set(xscale="log", ylim=_limits(panel))
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_major_formatter(lambda rate, _: format_rate(rate))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(label(panel.title, 40), pad=16)
    rates = ((name, getattr(panel, name)) for name, *_ in MARKS)
    summary = ", ".join(f"{name} {format_rate(rate)}" for name, rate in rates if rate)
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(
        summary or panel.note, (0, 1), (0, 4), color=GRAY, fontsize=8, **style
    )


def _limits(panel: Panel) -> tuple[float, float]:
    """Return axis limits for the losses up to the lowest; divergence may be cut off."""
    before = panel.losses[: panel.smoothed.argmin() + 1]
    low, high = panel.losses.min(), before.max()
    span = max(high - low, 0.01 * high)
    return low - 0.1 * span, high + 0.5 * span
