"""Where the boxes of a strategy's picture are, so that what they say fits in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmed.report.figures.style import WIDTH, label, spell_rate, text_width
from jaxmed.report.text.phases import PhaseRecord, StageRecord

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
    """Finds columns as wide as the root of their parameters, but wide enough.

    Args:
        phases: at least one; all with the same stages, at least one.
    """
    columns = list(zip(*(phase.stages for phase in phases), strict=True))
    firsts = phases[0].stages
    room = PAGE - 2 * MARGIN - GAP * (len(columns) - 1)
    names = [text_width(spell_name(s.name), LARGE, "bold") for s in firsts]
    sizes = [text_width(spell_size(stage.parameters), SMALL) for stage in firsts]
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


def spell_name(name: str) -> str:
    """A stage's name, shortened in its middle: names differ at their ends."""
    if len(name) > NAME_LENGTH:
        half = NAME_LENGTH // 2
        name = f"{name[: half - 1]}…{name[-half:]}"
    return label(name)


def spell_size(parameters: int) -> str:
    """A number of parameters in at most five characters: "8.4 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if parameters >= unit:
            return f"{parameters / unit:.{1 if parameters < 10 * unit else 0}f}{name}"
    return str(parameters)


def _room(stage: StageRecord) -> float:
    """The length of the words in a box; two rates stand side by side."""
    rates = [text_width(spell_rate(rate), LARGE) for rate in stage.rates]
    words = len(rates) * max(rates) + 2 * PAD * (len(rates) - 1) if rates else 0.0
    share = text_width(stage.share, SMALL) if stage.partial else 0.0
    frozen = text_width(stage.rate, LARGE) if stage.frozen else 0.0
    return max(words, share, frozen)


def _fill(
    sizes: Sequence[float], least: Sequence[float], room: float
) -> Sequence[float]:
    """Fills the room with widths in proportion to `sizes`, but none below `least`."""
    factors = np.linspace(0, room / max(*sizes, 1e-9), 4000)
    widths = np.maximum(np.array(least), factors[:, None] * np.array(sizes))
    widest = widths[widths.sum(axis=1) <= room + 1e-6][-1]
    return (widest * room / widest.sum()).tolist()
