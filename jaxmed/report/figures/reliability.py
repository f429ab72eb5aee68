"""Reliability diagrams: does it happen as often as predicted, also after scaling?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxmed.evaluation.metrics.calibration_error import BINS, equal_width_bins
from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    legend_below,
    new_figure,
    spell,
    styled,
)
from jaxmed.runs.record import RunRecord

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
    """Draws observed frequencies over predicted probabilities, and how many there are.

    Uprights are Wilson's 95 % intervals of the frequencies.

    Returns:
        None for a run whose metrics.json has no diagrams, as older ones.
    """
    found = run.metrics["calibration"]
    diagrams = found.get("reliability")
    if not diagrams:
        return None
    ratios = {"height_ratios": (3, 1)}
    figure, (upper, lower) = new_figure(5.6, 2, sharex=True, gridspec_kw=ratios)
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    for when, bins in diagrams.items():
        suffix = "" if when == "before" else "_calibrated"
        error = found["test"].get(f"ece{suffix}", {}).get("value")
        _draw_bins(upper, bins, LOOKS[when], f"{when} scaling, ECE {spell(error)}")
        _draw_counts(lower, bins, LOOKS[when])
    across, up = OBSERVED.get(run.task, TOP)
    upper.set(ylabel=up, ylim=(-0.02, 1.02))
    lower.set(xlabel=across, ylabel="predictions", xlim=(-0.02, 1.02))
    lower.set_ylim(bottom=0)
    legend_below(figure, [upper])
    return figure


def bin_counts(bins: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """How many probabilities each bin of equal width holds, empty ones too: (15,)."""
    places = equal_width_bins(np.array([one["predicted"] for one in bins]))
    return np.bincount(places, [one["n"] for one in bins], minlength=BINS)


def _draw_bins(axes: Axes, bins, look: Mapping[str, Any], name: str) -> None:
    predicted = [one["predicted"] for one in bins]
    values, lows, highs = (
        np.array([one["observed"][part] for one in bins])
        for part in ("value", "ci_low", "ci_high")
    )
    # Of rounding, an end can be beyond the value by 1e-17.
    ends = np.maximum([values - lows, highs - values], 0)
    bars = {"elinewidth": 1, "capsize": 2, "markersize": 5, "linewidth": 1.1}
    axes.errorbar(predicted, values, yerr=ends, **look, **bars, label=name)


def _draw_counts(axes: Axes, bins, look: Mapping[str, Any]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.3}
    axes.stairs(bin_counts(bins), edges, **line)
