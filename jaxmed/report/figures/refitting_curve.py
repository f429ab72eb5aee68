"""Metrics over the number of external images that threshold and calibration fit on."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jaxmed.report.figures.style import (
    GRAY,
    color,
    legend_below,
    marker,
    new_figure,
    styled,
)
from jaxmed.report.tables.formatting import metric_title

PANELS = (("sensitivity", "specificity"), ("log_loss", "brier"))


@styled
def draw_refitting(curve: Mapping[str, Any]) -> Figure:
    """Draw means and ranges over draws, and the run as it is as dashed lines.

    Args:
        curve: what `refitting_curve` returned, with at least one size.
    """
    unchanged = curve["unchanged"]
    panels = [[n for n in panel if n in unchanged] for panel in PANELS]
    panels = [panel for panel in panels if panel]
    figure, axes = new_figure(2.3 * len(panels) + 0.6, len(panels), sharex=True)
    index = 0
    for ax, names in zip(axes, panels, strict=True):
        for name in names:
            points = [p for p in curve["sizes"] if name in p["metrics"]]
            at = [p["k"] for p in points]
            parts = {
                part: [p["metrics"][name][part] for p in points]
                for part in ("mean", "low", "high")
            }
            paint = color(index)
            style: dict[str, Any] = {"color": paint, "marker": marker(index)}
            ax.plot(at, parts["mean"], **style, label=metric_title(name))
            ax.fill_between(
                at, parts["low"], parts["high"], color=paint, alpha=0.13, linewidth=0
            )
            ax.axhline(unchanged[name], color=paint, linestyle="--", linewidth=0.9)
            index += 1
        ax.set_xscale("log")
        sizes = [point["k"] for point in curve["sizes"]]
        ax.set_xticks(sizes, [f"{k:,}" for k in sizes])
        ax.minorticks_off()
    axes[-1].set_xlabel("external images fitted on (dashed: the run as it is)")
    axes[-1].plot([], [], "--", color=GRAY, label="as it is")
    legend_below(figure, axes, columns=3)
    return figure
