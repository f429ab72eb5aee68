"""Training curves: loss, accuracy and AUROC over epochs, phases and chosen epoch."""

import math
from collections.abc import Mapping, Sequence
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
    new_figure,
    styled,
)

Limits = tuple[float, float]

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


def common_limits(runs: Sequence[RunRecord]) -> tuple[Limits, Limits]:
    """Ranges of the loss and of the scores that hold the curves of all `runs`."""
    rows = [row for run in runs for row in run.history]
    losses = _finite(rows, [column for column, *_ in LOSSES])
    scores = _finite(rows, [column for column, *_ in SCORES])
    top = max(losses, default=1.0)
    low = min(scores, default=0.0)
    return (0.0, top * 1.06), (max(0.0, low - 0.05), 1.01)


@styled
def draw_curves(
    run: RunRecord,
    limits: tuple[Limits, Limits],
    published: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draws one run's history.

    Args:
        run: its history has at least one row.
        limits: from `common_limits`, so that arms side by side can be compared.
        published: published values by epoch, by column; drawn as hollow circles.
    """
    figure, (loss, score) = new_figure(5.2, rows=2, sharex=True)
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
    score.set(ylabel="accuracy, AUROC", ylim=limits[1], xlabel="epoch")
    score.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    score.set_xlim(0.5, len(epochs) + 0.5)
    _mark_phases((loss, score), run.history)
    _mark_chosen((loss, score), run)
    # Below, since no corner is free in every run.
    legend_below(figure, (loss, score), columns=2)
    return figure


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
    for one, name in zip(axes, ("chosen epoch", None), strict=True):
        one.axvline(run.best_row + 1, **band, label=name)


def _finite(rows: Sequence[Row], columns: Sequence[str]) -> list[float]:
    values = [row[column] for row in rows for column in columns]
    return [value for value in values if math.isfinite(value)]
