"""Strategy diagram: a row per phase, a box per stage, colored by learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from jaxmed.report.figures.style import (
    GRAY,
    INK,
    WIDTH,
    format_rate,
    label,
    new_figure,
    styled,
    text_width,
)
from jaxmed.report.text.phases import PhaseRecord, StageRecord, read_phases
from jaxmed.runs.record import RunRecord

# In points, as all that follows.
PAGE = WIDTH * 72
MARGIN, GAP, PAD = 3.0, 3.0, 3.5
LARGE, SMALL = 9.0, 8.0
LINE = 12.0
NAME_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A column per stage, and the same heights in every phase.

    Attributes:
        lefts, widths: of the columns.
        head: the height of the stages' names and sizes.
        box: the height of a box.
        turned_names: whether names are upright, since they are too long for columns.
        turned: whether all text is, since there are too many columns for any.
    """

    lefts: tuple[float, ...]
    widths: tuple[float, ...]
    head: float
    box: float
    turned_names: bool
    turned: bool


def make_grid(phases: Sequence[PhaseRecord]) -> Grid:
    """Lay out columns with widths by the square root of their parameters.

    Args:
        phases: at least one; all with the same stages, at least one.
    """
    columns = list(zip(*(phase.stages for phase in phases), strict=True))
    firsts = phases[0].stages
    room = PAGE - 2 * MARGIN - GAP * (len(columns) - 1)
    names = [text_width(short_name(s.name), LARGE, "bold") for s in firsts]
    sizes = [text_width(format_size(stage.parameters), SMALL) for stage in firsts]
    texts = [max(map(_room, column)) for column in columns]
    least = [2 * PAD + max(two) for two in zip(sizes, texts, strict=True)]
    named = [max(w, 2 * PAD + n) for w, n in zip(least, names, strict=True)]
    turned_names, turned = sum(named) > room, sum(least) > room
    head, box = 2 * LINE, 2.5 * LINE
    if turned:
        least = [min(LINE, room / len(columns))] * len(columns)
        head = max(names) + PAD
        halves = 2 if any(s.partial for phase in phases for s in phase.stages) else 1
        box = max(box, halves * (max(texts) + 2 * PAD))
    elif turned_names:
        head = max(names) + PAD + LINE
    else:
        least = named
    widths = _fill([math.sqrt(stage.parameters) for stage in firsts], least, room)
    lefts = MARGIN + np.cumsum([0.0, *(width + GAP for width in widths[:-1])])
    return Grid(
        lefts=tuple(lefts.tolist()),
        widths=tuple(widths),
        head=head,
        box=box,
        turned_names=turned_names,
        turned=turned,
    )


def short_name(name: str) -> str:
    """Shorten a stage's name in its middle: names differ at their ends."""
    if len(name) > NAME_LENGTH:
        half = NAME_LENGTH // 2
        name = f"{name[: half - 1]}…{name[-half:]}"
    return label(name)


def format_size(parameters: int) -> str:
    """Format a number of parameters in at most five characters: "8.4 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if parameters >= unit:
            return f"{parameters / unit:.{1 if parameters < 10 * unit else 0}f}{name}"
    return str(parameters)


def _room(stage: StageRecord) -> float:
    """Compute the width of the text in a box; two rates stand side by side."""
    rates = [text_width(format_rate(rate), LARGE) for rate in stage.rates]
    words = len(rates) * max(rates) + 2 * PAD * (len(rates) - 1) if rates else 0.0
    share = text_width(stage.share, SMALL) if stage.partial else 0.0
    frozen = text_width(stage.rate, LARGE) if stage.frozen else 0.0
    return max(words, share, frozen)


def _fill(
    sizes: Sequence[float], least: Sequence[float], room: float
) -> Sequence[float]:
    """Fill the room with widths in proportion to `sizes`, but none below `least`."""
    factors = np.linspace(0, room / max(*sizes, 1e-9), 4000)
    widths = np.maximum(np.array(least), factors[:, None] * np.array(sizes))
    widest = widths[widths.sum(axis=1) <= room + 1e-6][-1]
    return (widest * room / widest.sum()).tolist()


# Uniform to the eye, with or without color vision and in gray; the higher the darker,
# so that white paper, light gray for frozen and low rates come in that order.
COLORS_OF_RATES = matplotlib.colormaps["viridis_r"]
PALE, HATCH = "#f1f3f5", "#cfd6dd"
UPDATING_STATS, FROZEN_STATS = "↻", "❄"
MEANINGS = {
    UPDATING_STATS: "frozen, but BatchNorm statistics update",
    FROZEN_STATS: "trained, but BatchNorm statistics frozen",
}
BADGE = 10.0
BAR = 2.6 * LINE

Box = tuple[float, float, float, float]
"""Left, top, width and height in points, downwards from the figure's top left."""


def rate_scale(runs: Sequence[RunRecord]) -> LogNorm | None:
    """Return the color scale of all rates in `runs`, in decades; None without rates."""
    stages = [s for run in runs for phase in read_phases(run) for s in phase.stages]
    rates = [math.log10(rate) for stage in stages for rate in stage.rates if rate > 0]
    if not rates:
        return None
    low, high = math.floor(min(rates)), math.ceil(max(rates))
    if low == high:
        low, high = low - 1, high + 1
    return LogNorm(10.0**low, 10.0**high)


@styled
def draw_stages(phases: Sequence[PhaseRecord], scale: LogNorm | None) -> Figure:
    """Draw what each phase trains.

    Args:
        phases: from `read_phases`, at least one.
        scale: from `rate_scale` of every run in the report, so that colors mean the
            same in all its pictures.
    """
    grid = make_grid(phases)
    shown = "".join(_marks(stage) for phase in phases for stage in phase.stages)
    marks = [mark for mark in MEANINGS if mark in shown]
    tops, top = [], LINE + PAD + grid.head + 2 * PAD
    space = BADGE if marks else PAD
    for phase in phases:
        tops.append(top)
        top += LINE * len(_heading(phase)) + space + grid.box + LINE
    legend = top + (BAR if scale else 0)
    height = legend + LINE * len(marks)
    figure, (axes,) = new_figure(height / 72)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    axes.axis("off")
    _draw_head(axes, phases[0].stages, grid)
    for phase, y in zip(phases, tops, strict=True):
        _draw_phase(axes, phase, y, space, grid, scale)
    if scale:
        _draw_bar(figure, axes, scale, top)
    for index, mark in enumerate(marks):
        y = legend + (index + 0.3) * LINE
        _draw_mark(axes, MARGIN + BADGE / 2, y, mark)
        _write(axes, MARGIN + BADGE + PAD, y, MEANINGS[mark], size=SMALL, ha="left")
    return figure


def _marks(stage: StageRecord) -> str:
    updating = UPDATING_STATS if stage.updating_bn_stats else ""
    return updating + (FROZEN_STATS if stage.frozen_bn_stats else "")


def _draw_head(axes: Axes, stages: Sequence[StageRecord], grid: Grid) -> None:
    y, plain = LINE / 2, {"color": GRAY, "size": SMALL}
    _write(axes, MARGIN, y, "image", ha="left", **plain)
    start = MARGIN + text_width("image", SMALL) + PAD
    arrow = {"arrowstyle": "->", "color": GRAY, "linewidth": 0.8}
    axes.annotate("", (PAGE - MARGIN, y), (start, y), arrowprops=arrow)
    for stage, left, width in zip(stages, grid.lefts, grid.widths, strict=True):
        x, y = left + width / 2, LINE + PAD + grid.head
        if not grid.turned:
            y -= LINE
            _write(axes, x, y + LINE / 2, format_size(stage.parameters), **plain)
        turn = {"rotation": 90 if grid.turned_names else 0, "va": "bottom"}
        name = short_name(stage.name)
        _write(axes, x, y, name, weight="bold", gid="name", **turn)


def _heading(phase: PhaseRecord) -> tuple[tuple[str, str], ...]:
    """Return the heading lines of a phase, each a bold part and a plain part."""
    name, rest = label(phase.name, 36), label(phase.duration, 64)
    together = text_width(name, LARGE, "bold") + 2 * PAD + text_width(rest, SMALL)
    if together <= PAGE - 2 * MARGIN:
        return ((name, rest),)
    return (name, ""), ("", rest)


def _draw_phase(
    axes: Axes,
    phase: PhaseRecord,
    top: float,
    space: float,
    grid: Grid,
    scale: LogNorm | None,
) -> None:
    for name, rest in _heading(phase):
        y = top + LINE / 2
        _write(axes, MARGIN, y, name, weight="bold", ha="left")
        x = MARGIN + (text_width(name, LARGE, "bold") + 2 * PAD if name else 0)
        _write(axes, x, y, rest, color=GRAY, size=SMALL, ha="left")
        top += LINE
    top += space
    for stage, left, width in zip(phase.stages, grid.lefts, grid.widths, strict=True):
        _draw_stage(axes, stage, (left, top, width, grid.box), grid.turned, scale)
        for index, mark in enumerate(reversed(_marks(stage))):
            x = left + width - PAD - index * (BADGE + 1)
            _draw_mark(axes, x, top - 2.5, mark)


def _draw_stage(
    axes: Axes, stage: StageRecord, box: Box, turned: bool, scale: LogNorm | None
) -> None:
    """Draw a box: gray if frozen, colored below a gray half if trained in part."""
    left, top, width, height = box
    if stage.frozen:
        _draw_frozen(axes, stage.rate, box, turned, size=LARGE)
    else:
        upper = height / 2 if stage.partial else 0.0
        if stage.partial:
            above = left, top, width, upper
            _draw_frozen(axes, stage.share, above, turned, size=SMALL)
        lower = left, top + upper, width, height - upper
        _draw_rates(axes, stage.rates, lower, turned, scale)
    outline = {"fill": False, "edgecolor": GRAY, "linewidth": 0.8, "gid": "stage"}
    axes.add_patch(Rectangle((left, top), width, height, **outline))


def _draw_frozen(axes: Axes, words: str, box: Box, turned: bool, size) -> None:
    left, top, width, height = box
    gray = {"facecolor": PALE, "edgecolor": HATCH, "hatch": "/////", "linewidth": 0}
    axes.add_patch(Rectangle((left, top), width, height, **gray))
    halo = [withStroke(linewidth=2.5, foreground=PALE)]
    style = {"size": size, "rotation": 90 if turned else 0, "path_effects": halo}
    _write(axes, left + width / 2, top + height / 2, words, **style)


def _draw_rates(
    axes: Axes,
    rates: Sequence[float],
    box: Box,
    turned: bool,
    scale: LogNorm | None,
) -> None:
    """Color a box by its rate, or its two halves by the lowest and the highest."""
    left, top, width, height = box
    parts = max(1, len(rates))
    wide, high = (width, height / parts) if turned else (width / parts, height)
    for index, rate in enumerate(rates or (math.nan,)):
        x = left if turned else left + index * wide
        # Turned text is read from below.
        y = top + (parts - 1 - index) * high if turned else top
        # A rate of zero has no place on a logarithmic scale; its box is white.
        color = (1.0, 1.0, 1.0, 1.0)
        if scale and rate > 0:
            color = COLORS_OF_RATES(scale(rate))
        axes.add_patch(Rectangle((x, y), wide, high, facecolor=color, linewidth=0))
        style = {"color": _ink(color), "rotation": 90 if turned else 0}
        _write(axes, x + wide / 2, y + high / 2, format_rate(rate), **style)


def _ink(color: tuple[float, ...]) -> str:
    """Return white on dark colors, where its contrast is higher (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = np.dot(linear[:3], (0.2126, 0.7152, 0.0722))
    return "white" if luminance < 0.2 else INK


def _draw_bar(figure: Figure, axes: Axes, scale: LogNorm, top: float) -> None:
    _write(axes, MARGIN, top + 4, "learning rate", size=SMALL, ha="left")
    height = axes.get_ylim()[0]
    left = MARGIN + text_width("learning rate", SMALL) + 2 * PAD
    # The figures below the ends of the bar need room, too.
    width = PAGE - 4 * MARGIN - left
    box = (left / PAGE, 1 - (top + 8) / height, width / PAGE, 8 / height)
    mappable = ScalarMappable(scale, COLORS_OF_RATES)
    bar = figure.colorbar(
        mappable, figure.add_axes(box), orientation="horizontal", label=""
    )
    # Of many colors a bar is pixels by default, also in a PDF.
    if bar.solids is not None:
        bar.solids.set(rasterized=False, edgecolor="face")
    low, high = (round(math.log10(end)) for end in bar.ax.get_xlim())
    ticks = [10.0**d for d in range(low, high + 1, 1 + (high - low) // 7)]
    bar.set_ticks(ticks, labels=list(map(format_rate, ticks)))
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL, length=2)


def _draw_mark(axes: Axes, x: float, y: float, mark: str) -> None:
    disc = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": INK}
    _write(axes, x, y, mark, size=SMALL, bbox=disc | {"linewidth": 0.7}, gid="mark")


def _write(axes: Axes, x: float, y: float, text: str, **style) -> None:
    axes.text(x, y, text, **{"ha": "center", "va": "center", "size": LARGE} | style)
