"""Shared style of the report's figures: size, colors, fonts, PNG and PDF.

Figures are made with matplotlib's object interface; pyplot's global state, which would
open windows in a notebook, is never touched. They are as wide as a phone's screen, so
that their type is readable there without zooming, and the page sets several in a row
where there is room.
"""

import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

# Okabe and Ito's color-blind-safe palette (https://jfly.uni-koeln.de/color/), without
# its yellow, which is too light for a line on white, and with gray for its black,
# in which averages are drawn.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7F7F7F",
)
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
MISSING = "Glyph .* missing from"
"""Matplotlib's warning of a name in a script that the font lacks. It is drawn as boxes;
the page's own text has it right."""
INK, GRAY, FAINT = "#1c2530", "#6b7683", "#d9dee4"

WIDTH = 4.4
"""Inches; at the page's 96 dots per inch a little more than a phone's 390."""
DPI = 200
TYPE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # Long enough to tell dashes from a line.
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.6,
    # TrueType, which journals ask for and drawing programs can edit.
    "pdf.fonttype": 42,
}


styled = matplotlib.rc_context(TYPE)
"""Decorates a function that draws, so that what it draws is in the report's type."""


def new_figure(height: float, rows: int = 1, **options) -> tuple[Figure, list[Axes]]:
    """Make a figure of the report's width with `rows` axes below each other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False, **options)[:, 0]
    return figure, list(axes)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 1) -> None:
    """Put one legend of all the axes below them, where it hides nothing."""
    handles, names = [], []
    for ax in axes:
        more = ax.get_legend_handles_labels()
        handles, names = handles + more[0], names + more[1]
    if handles:
        style: dict[str, Any] = {"loc": "outside lower center", "borderaxespad": 0.8}
        figure.legend(handles, names, ncols=columns, **style)


@styled
def png(figure: Figure) -> bytes:
    """Draw a figure and returns it as a PNG file."""
    return _save(figure, format="png", dpi=DPI, metadata={"Software": None})


@styled
def pdf(figure: Figure) -> bytes:
    """Draw a figure and returns it as a PDF file, the same for the same figure."""
    return _save(figure, format="pdf", metadata={"CreationDate": None})


def _save(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=MISSING)
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def color(index: int) -> str:
    """Return the color of the arm, or class, number `index`."""
    return COLORS[index % len(COLORS)]


def dashes(index: int) -> str:
    """Return a line style that distinguishes lines of the same color."""
    return DASHES[index // len(COLORS) % len(DASHES)]


def marker(index: int) -> str:
    """Return the marker of arm number `index`: color is never the only difference."""
    return MARKERS[index % len(MARKERS)]


def label(name: str, length: int = 24) -> str:
    """Make a name safe for matplotlib: short, one line, no mathematics, not hidden."""
    name = " ".join(name.split())
    if len(name) > length:
        name = name[: length - 1].rstrip() + "…"
    # Legends leave out what starts with an underscore.
    name = f" {name}" if name.startswith("_") else name
    return name.replace("$", r"\$")


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Format a number: "0.976", with a true minus, or a dash for none."""
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def format_rate(value: float | None) -> str:
    """Format a learning rate: "1e-4", "2.5e-5", "0.1", or a dash for none."""
    if value is None or value != value:
        return "–"
    if value == 0 or value >= 0.1:
        return f"{value:.3g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text, in points."""
    font = FontProperties(family=TYPE["font.family"], weight=weight, size=size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=MISSING)
        return TextPath((0, 0), text, prop=font).get_extents().width if text else 0.0
