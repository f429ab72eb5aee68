"""ROC curves of the test split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from jaxmed.evaluation import Predictions
from jaxmed.evaluation.metrics.curve_bands import Band, roc_band
from jaxmed.report.figures.style import (
    GRAY,
    INK,
    color,
    dashes,
    label,
    legend_below,
    marker,
    new_figure,
    spell,
    styled,
)
from jaxmed.runs.record import Arm, RunRecord

NAMED_CLASSES = 12
"""With more classes than this, only the macro curve gets a name in the legend."""

Curve = tuple[np.ndarray, np.ndarray]


@styled
def draw_binary_roc(arms: Sequence[Arm]) -> Figure:
    """One curve per arm, with the operating point of the threshold chosen on val.

    A thick stretch of the curve shows where thresholds chosen in resamples of val lie.

    Args:
        arms: of a binary task. The lowest seed is drawn in full, the others thin.
    """
    figure, (axes,) = new_figure(4.3 + 0.18 * len(arms))
    for index, arm in enumerate(arms):
        style: dict[str, Any] = {"color": color(index), "linestyle": dashes(index)}
        for run in arm.runs[1:]:
            if curve := class_curve(run.predictions["test"], 1):
                axes.plot(*curve, **style, linewidth=0.7, alpha=0.5)
        test, predictions = arm.first.metrics["test"], arm.first.predictions["test"]
        draw_band(axes, roc_band(predictions, [1]), color(index))
        if curve := class_curve(predictions, 1):
            name = f"{label(arm.name)}, AUROC {spell(_value(test, 'auroc'))}"
            axes.plot(*curve, **style, label=name)
            around = stretch(predictions, arm.first.metrics["threshold"])
            axes.plot(*around, color=color(index), linewidth=6, alpha=0.35)
        at = arm.first.metrics["test_at_threshold"]
        sensitivity, specificity = _value(at, "sensitivity"), _value(at, "specificity")
        if sensitivity is not None and specificity is not None:
            axes.plot(
                1 - specificity,
                sensitivity,
                marker(index),
                color=color(index),
                markeredgecolor="white",
                markersize=9,
                zorder=5,
            )
    axes.plot([], [], "o", color=GRAY, label="at the threshold chosen on val")
    _finish(axes)
    legend_below(figure, [axes])
    return figure


@styled
def draw_class_roc(run: RunRecord) -> Figure:
    """One-vs-rest curves of one run, and their macro average with its band.

    Args:
        run: of a multi-class, ordinal or multi-label task.
    """
    names = run.class_names
    named = len(names) <= NAMED_CLASSES
    lines = (len(names) + 2) // 2 if named else 1
    figure, (axes,) = new_figure(4.35 + 0.18 * lines)
    curves = [class_curve(run.predictions["test"], k) for k in range(len(names))]
    for index, (name, curve) in enumerate(zip(names, curves, strict=True)):
        if curve is None:
            continue
        auroc = _value(run.metrics["per_class"]["test"][name], "auroc")
        axes.plot(
            *curve,
            color=color(index) if named else GRAY,
            linestyle=dashes(index) if named else "-",
            linewidth=1.1 if named else 0.6,
            label=f"{label(name, 18)} {spell(auroc)}" if named else None,
        )
    drawn = [curve for curve in curves if curve is not None]
    if named:
        band = roc_band(run.predictions["test"], range(len(names)))
        draw_band(axes, band, INK)
    if drawn:
        macro = spell(_value(run.metrics["test"], "auroc"))
        axes.plot(*macro_curve(drawn), color=INK, linewidth=2.4, label=f"macro {macro}")
    _finish(axes)
    legend_below(figure, [axes], columns=2)
    return figure


def class_curve(predictions: Predictions, index: int) -> Curve | None:
    """The ROC of one class against the rest.

    Returns:
        False and true positive rates, both from 0 to 1; None where the split lacks
        either the class or the rest, so that there is no curve.
    """
    known = predictions.known[:, index]
    truth = predictions.truth[known, index]
    if truth.all() or not truth.any():
        return None
    false, true, _ = roc_curve(truth, predictions.probs[known, index])
    return false, true


def macro_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of the true positive rates over the union of false positive rates.

    Where a curve rises upright, the mean does too: its area is exactly the mean of the
    areas.
    """
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    # Of several points at the same abscissa np.interp takes the last.
    tops = [np.interp(grid, false, true) for false, true in curves]
    feet = [np.interp(-grid, -false[::-1], true[::-1]) for false, true in curves]
    rates = np.stack([np.mean(feet, axis=0), np.mean(tops, axis=0)], axis=1)
    return np.repeat(grid, 2), rates.ravel()


def stretch(predictions: Predictions, threshold: Mapping[str, Any]) -> Curve:
    """The ROC of a binary task between the ends of the threshold's interval.

    Returns:
        As `class_curve`; empty where the threshold has no interval.
    """
    low, high = threshold.get("ci_low"), threshold.get("ci_high")
    if low is None or high is None:
        return np.empty(0), np.empty(0)
    scores, truth = predictions.probs[:, 1], predictions.truth[:, 1]
    between = scores[(scores >= low) & (scores <= high)]
    cuts = np.unique([low, high, *between])
    negatives, positives = np.sort(scores[~truth]), np.sort(scores[truth])
    rates = [1 - np.searchsorted(s, cuts) / len(s) for s in (negatives, positives)]
    return rates[0], rates[1]


def draw_band(axes: Axes, band: Band | None, paint: str) -> None:
    """Fills between the ends of a band, if there is one."""
    if band is not None:
        axes.fill_between(
            band.at, band.low, band.high, color=paint, alpha=0.13, linewidth=0
        )


def _value(metrics: dict, name: str) -> float | None:
    return metrics.get(name, {}).get("value")


def _finish(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="1 − specificity (false positive rate)",
        ylabel="sensitivity (true positive rate)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
