"""Insertion and deletion curves of a saliency method, beside those of random maps."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jaxmed.explain.methods import METHODS
from jaxmed.report.figures.style import (
    COLORS,
    GRAY,
    format_number,
    legend_below,
    new_figure,
    styled,
)
from jaxmed.runs.record import RunRecord

TITLES = {
    "insertion": "Insertion: higher is better",
    "deletion": "Deletion: lower is better",
}
# Never by color alone.
MAPS: dict[str, Any] = {"color": COLORS[0], "linestyle": "-"}
RANDOM: dict[str, Any] = {"color": GRAY, "linestyle": "--"}


@styled
def draw_faithfulness(run: RunRecord) -> Figure | None:
    """Draw the class's mean probability over the share of pixels changed.

    Returns:
        None for a run whose maps were not measured.
    """
    measures = run.faithfulness
    if not measures.get("curves"):
        return None
    title = METHODS[measures["method"]].title
    figure, rows = new_figure(4.9, 2, sharex=True)
    for suffix, style, name in (("", MAPS, title), ("_random", RANDOM, "random maps")):
        areas = [measures["metrics"][curve + suffix]["value"] for curve in TITLES]
        words = f"{name}, areas {' and '.join(map(format_number, areas))}"
        for axes, curve in zip(rows, TITLES, strict=True):
            axes.plot(measures["shares"], measures["curves"][curve + suffix], **style)
        rows[0].lines[-1].set_label(words)
    for axes, heading in zip(rows, TITLES.values(), strict=True):
        axes.set(title=heading, ylabel="mean probability", xlim=(0, 1), ylim=(0, 1.02))
    rows[-1].set_xlabel("pixels changed, the most important first")
    rows[-1].xaxis.set_major_formatter(PercentFormatter(1))
    legend_below(figure, rows)
    return figure
