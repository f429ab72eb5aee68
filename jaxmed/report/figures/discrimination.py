"""ROC curves, precision-recall curves and confusion matrices of the test split."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from jaxmed.evaluation import Predictions
from jaxmed.evaluation.metrics.operating_points import (
    Band,
    precision_recall_band,
    roc_band,
)
from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    INK,
    color,
    dashes,
    format_number,
    label,
    legend_below,
    marker,
    new_figure,
    styled,
)
from jaxmed.runs.record import Arm, RunRecord

NAMED_CLASSES = 12
"""With more classes than this, the legend names the macro average only."""
WRITTEN_CLASSES = 14
"""With more classes than this, the cells of a confusion matrix hold no numbers."""

# One hue from white, so that it reads in gray and for every kind of color vision.
SHADES = LinearSegmentedColormap.from_list("shades", ["white", COLORS[0]])

Curve = tuple[np.ndarray, np.ndarray]


class CurveType(NamedTuple):
    """ROC or precision-recall curves: points, 95 % band and the area's name."""

    points: Callable[[Predictions, int], Curve | None]
    band: Callable[[Predictions, Sequence[int]], Band | None]
    area: str
    style: dict[str, Any]


@styled
def draw_binary_roc(arms: Sequence[Arm]) -> Figure:
    """Draw a ROC curve per arm, with the operating point of the validation threshold.

    A thick segment marks the thresholds chosen in bootstrap resamples of val.

    Args:
        arms: of a binary task. Each arm's lowest seed is drawn in full, others thin.
    """
    figure, (axes,) = new_figure(4.3 + 0.18 * len(arms))
    for index, arm in enumerate(arms):
        if _draw_arm(axes, index, arm, ROC):
            test = arm.first.predictions["test"]
            segment = threshold_segment(test, arm.first.metrics["threshold"])
            axes.plot(*segment, color=color(index), linewidth=6, alpha=0.35)
        at = arm.first.metrics["test_at_threshold"]
        sensitivity, specificity = _value(at, "sensitivity"), _value(at, "specificity")
        if sensitivity is not None and specificity is not None:
            point = {"color": color(index), "markeredgecolor": "white", "markersize": 9}
            axes.plot(1 - specificity, sensitivity, marker(index), **point, zorder=5)
    axes.plot([], [], "o", color=GRAY, label="at the threshold chosen on val")
    _finish_roc(axes)
    legend_below(figure, [axes])
    return figure


@styled
def draw_class_roc(run: RunRecord) -> Figure:
    """Draw one-vs-rest ROC curves of a run, and their macro average with its band.

    Args:
        run: of a multi-class, ordinal or multi-label task.
    """
    names, test = run.class_names, run.predictions["test"]
    named = len(names) <= NAMED_CLASSES
    figure, (axes,) = new_figure(4.35 + 0.18 * ((len(names) + 2) // 2 if named else 1))
    curves = _draw_classes(axes, run, ROC)
    if named:
        draw_band(axes, roc_band(test, range(len(names))), INK)
    if curves:
        _draw_macro(axes, macro_curve(curves), run, ROC)
    _finish_roc(axes)
    legend_below(figure, [axes], columns=2)
    return figure


@styled
def draw_binary_precision_recall(arms: Sequence[Arm]) -> Figure:
    """Draw a precision-recall curve per arm, of the positive class, with its band.

    Args:
        arms: of a binary task. Each arm's lowest seed is drawn in full, others thin.
    """
    figure, (axes,) = new_figure(4.3 + 0.18 * len(arms))
    for index, arm in enumerate(arms):
        _draw_arm(axes, index, arm, PRECISION_RECALL)
    _draw_chance(axes, arms[0].first.predictions["test"].truth[:, 1].mean())
    _finish_precision_recall(axes)
    legend_below(figure, [axes])
    return figure


@styled
def draw_class_precision_recall(run: RunRecord) -> Figure:
    """Draw one-vs-rest precision-recall curves of a run, and their mean with its band.

    Args:
        run: of a multi-class, ordinal or multi-label task.
    """
    names, test = run.class_names, run.predictions["test"]
    named = len(names) <= NAMED_CLASSES
    figure, (axes,) = new_figure(4.35 + 0.18 * ((len(names) + 3) // 2 if named else 2))
    _draw_classes(axes, run, PRECISION_RECALL)
    band = precision_recall_band(test, range(len(names))) if named else None
    if band:
        draw_band(axes, band, INK)
        _draw_macro(axes, (band.at, band.value), run, PRECISION_RECALL)
    shares = test.truth.sum(axis=0) / np.maximum(test.known.sum(axis=0), 1)
    _draw_chance(axes, shares.mean(), "mean ")
    _finish_precision_recall(axes)
    legend_below(figure, [axes], columns=2)
    return figure


def class_curve(predictions: Predictions, index: int) -> Curve | None:
    """Compute the ROC curve of one class against the rest.

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
    """Average true positive rates over the union of all false positive rates.

    Where a curve rises vertically, so does the mean: its area is exactly the mean of
    the areas.
    """
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    # Of several points at the same abscissa np.interp takes the last.
    tops = [np.interp(grid, false, true) for false, true in curves]
    feet = [np.interp(-grid, -false[::-1], true[::-1]) for false, true in curves]
    rates = np.stack([np.mean(feet, axis=0), np.mean(tops, axis=0)], axis=1)
    return np.repeat(grid, 2), rates.ravel()


def threshold_segment(predictions: Predictions, threshold: Mapping[str, Any]) -> Curve:
    """Compute the ROC curve between the ends of the threshold's interval.

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


def precision_recall(predictions: Predictions, index: int) -> Curve | None:
    """Compute precision over recall of one class against the rest.

    Returns:
        Recall from 0 to 1, and for each the precision at the highest threshold that
        reaches it; None where the split lacks the class. It starts at recall 0 with
        the precision of the first recall.
    """
    known = predictions.known[:, index]
    truth = predictions.truth[known, index]
    if not truth.any():
        return None
    precisions, recalls, _ = precision_recall_curve(
        truth, predictions.probs[known, index]
    )
    # By rising recall; of equal recalls the first has the highest threshold.
    recall, first = np.unique(recalls[::-1], return_index=True)
    precision = precisions[::-1][first]
    precision[0] = precision[1]
    return recall, precision


ROC = CurveType(class_curve, roc_band, "auroc", {})
PRECISION_RECALL = CurveType(
    precision_recall, precision_recall_band, "auprc", {"drawstyle": "steps-pre"}
)


def draw_band(axes: Axes, band: Band | None, paint: str) -> None:
    """Fill the area between the ends of a band, if there is one."""
    if band is not None:
        axes.fill_between(
            band.at, band.low, band.high, color=paint, alpha=0.13, linewidth=0
        )


def _draw_arm(axes: Axes, index: int, arm: Arm, curve_type: CurveType) -> bool:
    """Draw the curves of an arm's seeds; return whether the lowest seed has one."""
    style = {"color": color(index), "linestyle": dashes(index), **curve_type.style}
    for run in arm.runs[1:]:
        if curve := curve_type.points(run.predictions["test"], 1):
            axes.plot(*curve, **style, linewidth=0.7, alpha=0.5)
    test = arm.first.predictions["test"]
    draw_band(axes, curve_type.band(test, [1]), color(index))
    if (curve := curve_type.points(test, 1)) is None:
        return False
    area = format_number(_value(arm.first.metrics["test"], curve_type.area))
    axes.plot(
        *curve, **style, label=f"{label(arm.name)}, {curve_type.area.upper()} {area}"
    )
    return True


def _draw_classes(axes: Axes, run: RunRecord, curve_type: CurveType) -> list[Curve]:
    """Draw the curve of every class against the rest; return those that exist."""
    named, curves = len(run.class_names) <= NAMED_CLASSES, []
    for index, name in enumerate(run.class_names):
        if (curve := curve_type.points(run.predictions["test"], index)) is None:
            continue
        curves.append(curve)
        area = format_number(
            _value(run.metrics["per_class"]["test"][name], curve_type.area)
        )
        axes.plot(
            *curve,
            **curve_type.style,
            color=color(index) if named else GRAY,
            linestyle=dashes(index) if named else "-",
            linewidth=1.1 if named else 0.6,
            label=f"{label(name, 18)} {area}" if named else None,
        )
    return curves


def _draw_macro(
    axes: Axes, curve: Curve, run: RunRecord, curve_type: CurveType
) -> None:
    macro = format_number(_value(run.metrics["test"], curve_type.area))
    axes.plot(*curve, color=INK, linewidth=2.4, label=f"macro {macro}")


def _draw_chance(axes: Axes, prevalence: float, prefix: str = "") -> None:
    """Draw the prevalence: the precision of a model without skill."""
    name = f"{prefix}prevalence {format_number(float(prevalence), 2)}"
    axes.axhline(
        float(prevalence), color=GRAY, linewidth=0.9, linestyle=":", label=name
    )


def _finish_roc(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    names = "1 − specificity (false positive rate)", "sensitivity (true positive rate)"
    _finish(axes, *names)


def _finish_precision_recall(axes: Axes) -> None:
    _finish(axes, "recall (sensitivity)", "precision (positive predictive value)")


def _finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    limits = (-0.02, 1.02)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=limits, ylim=limits, aspect="equal")


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    return metrics.get(name, {}).get("value")


@styled
def draw_confusion(matrix: list[list[int]], class_names: tuple[str, ...]) -> Figure:
    """Draw counts, and their share of the row as shade and percentage.

    Args:
        matrix: counts; rows are true classes, columns predicted ones.
        class_names: the classes in the matrix's order.
    """
    counts = np.asarray(matrix)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(rows, 1)
    size = len(class_names)
    figure, (axes,) = new_figure(4.2)
    axes.grid(visible=False)
    # In a PDF, so many cells are better one image.
    many = size > WRITTEN_CLASSES
    edges = np.arange(size + 1) - 0.5
    style = {"cmap": SHADES, "vmin": 0, "vmax": 1, "rasterized": many}
    image = axes.pcolormesh(edges, edges, shares, **style)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    if not many:
        _write_cells(axes, counts, shares)
    else:
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    names = [label(name, 14) for name in class_names]
    small = 10 if size <= 4 else 7.5 if size <= WRITTEN_CLASSES else 5
    turn = {}
    if size > 3:
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(size), names, fontsize=small, **turn)
    upright = {"rotation": 90, "va": "center"} if size <= 3 else {}
    axes.set_yticks(range(size), names, fontsize=small, **upright)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    return figure


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = len(counts)
    number, percent = (15, 10.5) if size <= 3 else (9.5, 7)
    crowded = size > 8
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        style: dict[str, Any] = {"ha": "center", "color": INK}
        if share > 0.55:
            style["color"] = "white"
        if crowded:
            axes.text(column, row, f"{count}", va="center", fontsize=7, **style)
            continue
        axes.text(column, row, f"{count}", va="bottom", fontsize=number, **style)
        axes.text(column, row, f"{share:.0%}", va="top", fontsize=percent, **style)
