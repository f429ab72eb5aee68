"""Training curves: loss, scores and learning rates over epochs and phases."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxmed.report.records import Row, RunRecord
from jaxmed.report.style import (
    COLORS,
    GREY,
    INK,
    label,
    legend_below,
    marker,
    new_figure,
    styled,
)

Limits = tuple[float, float]
Ranges = tuple[Limits, Limits, Limits]
"""Of the loss, of the scores, and of the learning rates."""

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
    """Ranges that hold the curves of all `runs`."""
    rows = [row for run in runs for row in run.history]
    losses = _finite(rows, [column for column, *_ in LOSSES])
    scores = _finite(rows, [column for column, *_ in SCORES])
    top = max(losses, default=1.0)
    low = min(scores, default=0.0)
    columns = [column for row in rows for column in row.values if _is_rate(column)]
    rates = [rate for rate in _finite(rows, dict.fromkeys(columns)) if rate > 0]
    high = max(rates, default=1.0)
    least = max(min(rates, default=0.1), high / 10**DECADES)
    return (0.0, top * 1.06), (max(0.0, low - 0.05), 1.01), (least / 1.6, high * 1.6)


def varying_rates(history: Sequence[Row]) -> dict[str, np.ndarray]:
    """The learning rate of each group by epoch, if a schedule changes any.

    Returns:
        Rates by group, nan where a phase does not train it; empty if every rate is
        constant within every phase.
    """
    columns = dict.fromkeys(c for row in history for c in row.values if _is_rate(c))
    varies = any(
        len(set(_finite(list(rows), [column]))) > 1
        for column in columns
        for _, rows in groupby(history, key=lambda row: row.phase)
    )
    if not varies:
        return {}
    return {c[len(RATE) :]: np.array([row[c] for row in history]) for c in columns}


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
    rates = varying_rates(run.history)
    ratios = (3, 3, 2) if rates else (1, 1)
    figure, panels = new_figure(
        7.2 if rates else 5.2, len(ratios), sharex=True, height_ratios=ratios
    )
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
    for axes in panels[2:]:
        _draw_rates(axes, epochs, rates, limits[2])
    panels[-1].set_xlabel("epoch")
    score.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    score.set_xlim(0.5, len(epochs) + 0.5)
    _mark_phases(panels, run.history)
    _mark_chosen(panels, run)
    # Below, since no corner is free in every run.
    legend_below(figure, panels, columns=2)
    return figure


def _draw_rates(
    axes: Axes, epochs: np.ndarray, rates: Mapping[str, np.ndarray], limits: Limits
) -> None:
    axes.set(yscale="log", ylim=limits, ylabel="learning rate")
    # The first are the widest, so that those of equal rates show below the others.
    widths = np.linspace(1.2 + 1.4 * min(3, len(rates) - 1), 1.2, len(rates))
    for index, (group, values) in enumerate(rates.items()):
        axes.plot(
            epochs,
            # A logarithm has no place for zero.
            np.where(values > 0, values, np.nan),
            color=RATE_COLORS[index % len(RATE_COLORS)],
            linewidth=widths[index],
            marker=marker(index),
            markersize=3 + widths[index],
            label=f"rate of {label(group, 16)}",
        )


def _mark_phases(axes: Sequence[Axes], history: Sequence[Row]) -> None:
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
    band: dict[str, Any] = {"color": GREY, "linewidth": 5, "alpha": 0.25, "zorder": 0}
    for index, one in enumerate(axes):
        one.axvline(run.best_row + 1, **band, label=None if index else "chosen epoch")


def _is_rate(column: str) -> bool:
    return column.startswith(RATE)


def _finite(rows: Sequence[Row], columns: Iterable[str]) -> list[float]:
    values = [row[column] for row in rows for column in columns]
    return [value for value in values if math.isfinite(value)]
