"""Training curves: loss, scores and learning rates over epochs and phases."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    INK,
    label,
    legend_below,
    marker,
    new_figure,
    spell_rate,
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
    """Ranges that hold the curves of all `runs`.

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
    """Says whether any learning rate changes within a phase."""
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
    """Draws one run's history.

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
    axes.yaxis.set_major_formatter(lambda rate, _: spell_rate(rate))
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
    """Draws a line where a phase ends and writes the phases' names on top."""
    start = 0
    for phase, rows in groupby(history, key=lambda row: row.phase):
        end = start + len(list(rows))
        if start:
            for one in axes:
                one.axvline(start + 0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
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
    for index, one in enumerate(axes):
        one.axvline(run.best_row + 1, **band, label=None if index else "chosen epoch")


def _rate_columns(rows: Sequence[HistoryRow]) -> list[str]:
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return [column for column in columns if column.startswith(RATE)]


def _finite(rows: Sequence[HistoryRow], columns: Iterable[str]) -> list[float]:
    values = [row[column] for row in rows for column in columns]
    return [value for value in values if math.isfinite(value)]
