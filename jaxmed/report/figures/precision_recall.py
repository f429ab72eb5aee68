"""Precision-recall curves of the test split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from jaxmed.evaluation import Predictions
from jaxmed.evaluation.metrics.curve_bands import precision_recall_band
from jaxmed.report.figures.roc import NAMED_CLASSES, Curve, draw_band
from jaxmed.report.figures.style import (
    GRAY,
    INK,
    color,
    dashes,
    label,
    legend_below,
    new_figure,
    spell,
    styled,
)
from jaxmed.runs.record import Arm, RunRecord


@styled
def draw_binary_precision_recall(arms: Sequence[Arm]) -> Figure:
    """One curve per arm, of the positive class, with its band.

    Args:
        arms: of a binary task. The lowest seed is drawn in full, the others thin.
    """
    figure, (axes,) = new_figure(4.3 + 0.18 * len(arms))
    for index, arm in enumerate(arms):
        style: dict[str, Any] = {"color": color(index), "linestyle": dashes(index)}
        style |= {"drawstyle": "steps-pre"}
        for run in arm.runs[1:]:
            if curve := precision_recall(run.predictions["test"], 1):
                axes.plot(*curve, **style, linewidth=0.7, alpha=0.5)
        test = arm.first.predictions["test"]
        draw_band(axes, precision_recall_band(test, [1]), color(index))
        if curve := precision_recall(test, 1):
            value = arm.first.metrics["test"].get("auprc", {}).get("value")
            name = f"{label(arm.name)}, AUPRC {spell(value)}"
            axes.plot(*curve, **style, label=name)
    _draw_chance(axes, arms[0].first.predictions["test"].truth[:, 1].mean())
    _finish(axes)
    legend_below(figure, [axes])
    return figure


@styled
def draw_class_precision_recall(run: RunRecord) -> Figure:
    """One-vs-rest curves of one run, and their mean with its band.

    Args:
        run: of a multi-class, ordinal or multi-label task.
    """
    names, test = run.class_names, run.predictions["test"]
    named = len(names) <= NAMED_CLASSES
    lines = (len(names) + 3) // 2 if named else 2
    figure, (axes,) = new_figure(4.35 + 0.18 * lines)
    for index, name in enumerate(names):
        if (curve := precision_recall(test, index)) is None:
            continue
        auprc = run.metrics["per_class"]["test"][name].get("auprc", {}).get("value")
        axes.plot(
            *curve,
            drawstyle="steps-pre",
            color=color(index) if named else GRAY,
            linestyle=dashes(index) if named else "-",
            linewidth=1.1 if named else 0.6,
            label=f"{label(name, 18)} {spell(auprc)}" if named else None,
        )
    band = precision_recall_band(test, range(len(names))) if named else None
    if band:
        draw_band(axes, band, INK)
        macro = spell(run.metrics["test"].get("auprc", {}).get("value"))
        style = {"color": INK, "linewidth": 2.4, "label": f"macro {macro}"}
        axes.plot(band.at, band.value, **style)
    shares = test.truth.sum(axis=0) / np.maximum(test.known.sum(axis=0), 1)
    _draw_chance(axes, shares.mean(), "mean ")
    _finish(axes)
    legend_below(figure, [axes], columns=2)
    return figure


def precision_recall(predictions: Predictions, index: int) -> Curve | None:
    """Precision over recall of one class against the rest.

    Returns:
        Recall from 0 to 1, and for each the precision at the highest threshold that
        reaches it; None where the split lacks the class. It starts at recall 0 with
        the precision of the first recall.
    """
    known = predictions.known[:, index]
    truth = predictions.truth[known, index]
    if not truth.any():
        return None
    found = precision_recall_curve(truth, predictions.probs[known, index])
    # By rising recall; of equal recalls the first has the highest threshold.
    recall, first = np.unique(found[1][::-1], return_index=True)
    precision = found[0][::-1][first]
    precision[0] = precision[1]
    return recall, precision


def _draw_chance(axes: Axes, share: float, what: str = "") -> None:
    """The precision of a model that knows nothing is the class's share."""
    name = f"{what}prevalence {spell(float(share), 2)}"
    axes.axhline(float(share), color=GRAY, linewidth=0.9, linestyle=":", label=name)


def _finish(axes: Axes) -> None:
    axes.set(
        xlabel="recall (sensitivity)",
        ylabel="precision (positive predictive value)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
