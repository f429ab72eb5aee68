"""Reliability diagrams, decision curves and risk-coverage curves."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jaxmed.evaluation.calibration import read_scaling
from jaxmed.evaluation.metrics.calibration_error import BINS, equal_width_bins
from jaxmed.evaluation.metrics.decision_curve import decision_curve, risk_coverage
from jaxmed.evaluation.metrics.operating_points import RESAMPLES
from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    INK,
    color,
    dashes,
    format_number,
    label,
    legend_below,
    new_figure,
    styled,
)
from jaxmed.runs.record import Arm, RunRecord

# When, and what a diagram looks like then: never by color alone.
LOOKS: dict[str, dict[str, Any]] = {
    "before": {"color": COLORS[1], "marker": "s", "linestyle": "--", "mfc": "white"},
    "after": {"color": COLORS[0], "marker": "o", "linestyle": "-"},
}
OBSERVED = {
    "binary": ("probability of the positive class", "share that is positive"),
    "multilabel": ("probability of a label, all labels", "share that has the label"),
}
TOP = ("largest probability", "share that is right")


@styled
def draw_reliability(run: RunRecord) -> Figure | None:
    """Draw observed frequencies over predicted probabilities, and their counts.

    Uprights are Wilson's 95 % intervals of the frequencies.

    Returns:
        None for a run whose metrics.json has no diagrams, as older ones.
    """
    calibration = run.metrics["calibration"]
    diagrams = calibration.get("reliability")
    if not diagrams:
        return None
    ratios = {"height_ratios": (3, 1)}
    figure, (upper, lower) = new_figure(5.6, 2, sharex=True, gridspec_kw=ratios)
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    for when, bins in diagrams.items():
        suffix = "" if when == "before" else "_calibrated"
        error = calibration["test"].get(f"ece{suffix}", {}).get("value")
        _draw_bins(
            upper, bins, LOOKS[when], f"{when} scaling, ECE {format_number(error)}"
        )
        _draw_counts(lower, bins, LOOKS[when])
    across, up = OBSERVED.get(run.task, TOP)
    upper.set(ylabel=up, ylim=(-0.02, 1.02))
    lower.set(xlabel=across, ylabel="predictions", xlim=(-0.02, 1.02))
    lower.set_ylim(bottom=0)
    legend_below(figure, [upper])
    return figure


def bin_counts(bins: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Count the probabilities in each bin of equal width, empty ones too: (15,)."""
    indices = equal_width_bins(np.array([entry["predicted"] for entry in bins]))
    return np.bincount(indices, [entry["n"] for entry in bins], minlength=BINS)


def _draw_bins(axes: Axes, bins, style: Mapping[str, Any], name: str) -> None:
    predicted = [entry["predicted"] for entry in bins]
    values, lows, highs = (
        np.array([entry["observed"][part] for entry in bins])
        for part in ("value", "ci_low", "ci_high")
    )
    # Of rounding, an end can be beyond the value by 1e-17.
    ends = np.maximum([values - lows, highs - values], 0)
    bars = {"elinewidth": 1, "capsize": 2, "markersize": 5, "linewidth": 1.1}
    axes.errorbar(predicted, values, yerr=ends, **style, **bars, label=name)


def _draw_counts(axes: Axes, bins, style: Mapping[str, Any]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.3}
    axes.stairs(bin_counts(bins), edges, **line)


Parts = dict[str, np.ndarray]
# A legend names no more of them.
STRETCHES = 2


@styled
def draw_decision_curves(arms: Sequence[Arm]) -> Figure:
    """Draw net benefit over the threshold, of each arm and of treating all and none.

    The strip at the foot shows at which thresholds a model is better than both, thick
    where the intervals of both differences say so too.

    Args:
        arms: of a binary task; the lowest seed of each is drawn.
    """
    figure, (axes,) = new_figure(4.1 + 0.18 * len(arms))
    curves = [_net_benefit(arm.first) for arm in arms]
    at, everyone = curves[0]["at"], _parts(curves[0]["all"])
    highest = 0.0
    for index, (arm, curve) in enumerate(zip(arms, curves, strict=True)):
        model = _parts(curve["model"])
        shown: dict[str, Any] = {"color": color(index), "linestyle": dashes(index)}
        axes.plot(at, model["value"], **shown, label=_name(arm, curve))
        ends = model["ci_low"], model["ci_high"]
        axes.fill_between(at, *ends, color=color(index), alpha=0.13, linewidth=0)
        # Of few patients, and of a model that acts on no one, there is no interval.
        tops = np.fmax(model["value"], model["ci_high"])
        highest = max(highest, float(np.nanmax(tops)))
        height = 0.025 + 0.03 * index
        style: dict[str, Any] = {"transform": axes.get_xaxis_transform()}
        style["color"] = color(index)
        for where, width in ((better(curve), 1.0), (clearly_better(curve), 3.5)):
            foot = np.where(where, height, np.nan)
            axes.plot(at, foot, linewidth=width, **style)
            axes.plot(at, foot, ".", markersize=width, **style)
    axes.plot(at, everyone["value"], color=INK, linewidth=0.9, label="treat all")
    axes.axhline(0, color=GRAY, linestyle=":", label="treat none")
    axes.set(
        xlabel="threshold probability (calibrated)",
        ylabel="net benefit per image",
        xlim=(0, 1),
        ylim=(-(0.08 + 0.04 * len(arms)) * max(highest, 0.05), 1.06 * highest or 0.05),
    )
    legend_below(figure, [axes])
    return figure


@styled
def draw_risk_coverage(arms: Sequence[Arm]) -> Figure:
    """Draw the error rate over the coverage, the share of images that are decided.

    Args:
        arms: of any task; the lowest seed of each is drawn.
    """
    figure, (axes,) = new_figure(3.6 + 0.18 * len(arms))
    for index, arm in enumerate(arms):
        curve = risk_coverage(arm.first.predictions["test"], resamples=RESAMPLES)
        at, risk = curve["coverages"], _parts(curve["risk"])
        shown: dict[str, Any] = {"color": color(index), "linestyle": dashes(index)}
        name = f"{label(arm.name)}, AURC {format_number(curve['aurc']['value'])}"
        axes.plot(at, risk["value"], **shown, label=name)
        ends = risk["ci_low"], risk["ci_high"]
        axes.fill_between(at, *ends, color=color(index), alpha=0.13, linewidth=0)
    noun = "labels" if arms[0].first.task == "multilabel" else "images"
    axes.set(xlabel=f"coverage: {noun} decided, most certain first", xlim=(0, 1.01))
    axes.set(ylabel="risk: error rate")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(figure, [axes])
    return figure


def better(curve: dict[str, Any]) -> np.ndarray:
    """Return where the model's net benefit exceeds treating all and none: bool."""
    model, everyone = _parts(curve["model"])["value"], _parts(curve["all"])["value"]
    return model > np.maximum(everyone, 0)


def clearly_better(curve: dict[str, Any]) -> np.ndarray:
    """Return where the 95 % intervals of both differences exclude zero: bool."""
    lows = [_parts(curve[key])["ci_low"] for key in ("model", "over_all")]
    return better(curve) & (np.minimum(*lows) > 0)


def _net_benefit(run: RunRecord) -> dict[str, Any]:
    """Compute the decision curve of calibrated probabilities, if there is a scaling."""
    test, scaling = run.predictions["test"], read_scaling(run.metrics["calibration"])
    probs = None if scaling is None else scaling.apply(test)
    curve = decision_curve(test, probs=probs, resamples=RESAMPLES)
    return curve | {"at": np.array(curve["thresholds"])}


def _name(arm: Arm, curve: dict[str, Any]) -> str:
    at = curve["at"]
    above, clearly = (_stretches(at, w(curve)) for w in (better, clearly_better))
    return f"{label(arm.name)}: above both at {above}, clearly at {clearly}"


def _stretches(at: np.ndarray, where: np.ndarray) -> str:
    """Format the intervals where a condition holds: "0.10–0.35, 0.41–0.50"."""
    stretches = []
    for holds, indices in groupby(range(len(at)), key=list(where).__getitem__):
        if holds:
            first, *_, last = [*indices] * 2
            stretches.append(f"{at[first]:.2f}–{at[last]:.2f}")
    if len(stretches) > STRETCHES:
        ends = stretches[0].partition("–")[0], stretches[-1].partition("–")[2]
        return f"{'–'.join(ends)} with gaps"
    return ", ".join(stretches) or "none"


def _parts(estimates: Sequence[dict[str, Any]]) -> Parts:
    """Convert estimates to arrays by part; nan without a value."""
    return {
        part: np.array([estimate[part] for estimate in estimates], np.float64)
        for part in ("value", "ci_low", "ci_high")
    }
