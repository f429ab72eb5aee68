"""The confusion matrix as a picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from jaxmed.report.figures.style import COLORS, INK, label, new_figure, styled

# One hue from white, so that it reads in gray and for every kind of color vision.
SHADES = LinearSegmentedColormap.from_list("shades", ["white", COLORS[0]])
WRITTEN_CLASSES = 14
"""With more classes than this, numbers would not fit into the cells."""


@styled
def draw_confusion(matrix: list[list[int]], class_names: tuple[str, ...]) -> Figure:
    """Draws counts, and their share of the row as shade and percentage.

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
        _write(axes, counts, shares)
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


def _write(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
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
