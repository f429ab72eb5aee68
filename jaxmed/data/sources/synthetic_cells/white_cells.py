"""White cells by their features: nucleus, chromatin, cytoplasm and granules."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from jaxmed.data.sources.synthetic_cells.slide import (
    PURPLE,
    SIZE,
    Slide,
    color,
    noise,
    soft,
    speckle,
    window,
)

Range = tuple[float, float]
Circles = list[tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class Granules:
    """Granules of a cell: their dye, number, size (sigma, pixels) and place."""

    dye: np.ndarray
    count: tuple[int, int]
    size: Range
    strength: float = 1.0
    over_nucleus: bool = False


PALE = color(238, 212, 218)
ROSE = color(232, 196, 208)
GRAY_BLUE = color(186, 190, 212)
LIGHT_BLUE = color(170, 192, 226)
DEEP_BLUE = color(112, 128, 190)
FINE_PINK = Granules(dye=color(206, 140, 176), count=(60, 120), size=(0.6, 0.8))
ORANGE = Granules(
    dye=color(226, 112, 82), count=(90, 170), size=(1.0, 1.3), strength=1.3
)
VIOLET = Granules(
    dye=color(150, 60, 150), count=(50, 110), size=(0.7, 1.0), over_nucleus=True
)
DARK = Granules(
    dye=color(62, 36, 110),
    count=(45, 90),
    size=(1.2, 1.6),
    strength=1.3,
    over_nucleus=True,
)
DARK_OUTSIDE = Granules(
    dye=color(62, 36, 110), count=(70, 120), size=(1.0, 1.3), strength=1.1
)


@dataclass(frozen=True, kw_only=True)
class WhiteCell:
    """What a kind of white cell looks like; ranges are drawn from anew every time.

    Attributes:
        radius: of the cell, pixels.
        nucleus: "round", "arc" (a bent band) or "lobes" (segments on a thread).
        fill: radius of a round nucleus, or half the width of a band, as a share of
            the cell's radius.
        lobes: how many, for "lobes".
        span: degrees that a band covers, for "arc".
        cytoplasm: its dye.
        granules: or None.
        stain: strength of the nucleus's dye.
        clumps: contrast of the chromatin, and the bumps a side of its texture.
        nucleoli, vacuoles: how many pale spots in the nucleus, in the cytoplasm.
        off_center: how far a round nucleus sits to one side, share of the radius.
        hairs: length of the threads around the cell, pixels.
    """

    radius: Range
    nucleus: Literal["round", "arc", "lobes"]
    fill: Range = (0.5, 0.6)
    lobes: tuple[int, int] = (1, 1)
    span: Range = (0, 0)
    cytoplasm: np.ndarray
    granules: Granules | None = None
    stain: Range = (0.85, 1.1)
    clumps: tuple[float, int] = (0.18, 24)
    nucleoli: tuple[int, int] = (0, 0)
    vacuoles: tuple[int, int] = (0, 0)
    off_center: Range = (0.0, 0.12)
    hairs: float = 0.0


def draw_white_cell(
    slide: Slide, cell_type: WhiteCell, center: tuple[float, float], radius: float
) -> None:
    """Draws a white cell on top of what is there, which it mostly hides."""
    rng = slide.rng
    area = window(center, radius * 1.3 + cell_type.hairs + 2)
    outline = slide.distance(area, center)
    if cell_type.hairs:
        outline = outline - _hairs(slide, area, center, cell_type.hairs)
    cell = soft(outline - np.float32(radius), 1.6)
    slide.density[(slice(None), *area)] *= 1 - 0.9 * cell
    circles = _nucleus(rng, cell_type, center, radius)
    depth = _union(slide, area, circles)
    nucleus = soft(depth, 1.4)
    texture = 1 + 0.15 * noise(rng, 20)[area]
    slide.add(
        area, cell * texture * np.float32(rng.uniform(0.8, 1.3)), cell_type.cytoplasm
    )
    _draw_vacuoles(
        slide, area, cell * (1 - nucleus), center, radius, cell_type.vacuoles
    )
    contrast, points = cell_type.clumps
    chromatin = 1 + np.float32(contrast) * noise(rng, points)[area]
    chromatin *= np.float32(rng.uniform(*cell_type.stain))
    for _ in range(rng.integers(cell_type.nucleoli[0], cell_type.nucleoli[1] + 1)):
        row, column, size = circles[rng.integers(len(circles))]
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.6) * size
        spot = (row + away * math.sin(angle), column + away * math.cos(angle))
        hole = soft(slide.distance(area, spot) - np.float32(size * 0.2), 2.0)
        chromatin *= 1 - 0.5 * hole
    slide.add(area, nucleus * np.clip(chromatin, 0.25, 2), PURPLE)
    if cell_type.granules is not None:
        _draw_granules(slide, area, cell_type.granules, cell, nucleus, center, radius)


def _nucleus(
    rng: np.random.Generator,
    cell_type: WhiteCell,
    center: tuple[float, float],
    radius: float,
) -> Circles:
    """Draws a nucleus as circles (row, column, radius) whose union it is."""
    turn = rng.uniform(0, 2 * math.pi)
    fill = rng.uniform(*cell_type.fill)

    def at(angle: float, away: float) -> tuple[float, float]:
        angle += turn
        return (
            center[0] + away * radius * math.sin(angle),
            center[1] + away * radius * math.cos(angle),
        )

    if cell_type.nucleus == "round":
        row, column = at(0, rng.uniform(*cell_type.off_center))
        size = fill * radius
        steps = rng.uniform(-0.16, 0.16, (4, 2)) * size
        return [(row + a, column + b, size * 0.93) for a, b in steps]
    if cell_type.nucleus == "arc":
        span = math.radians(rng.uniform(*cell_type.span))
        away = 0.86 - fill
        return [
            (*at(angle, away), fill * radius * rng.uniform(0.92, 1.08))
            for angle in np.linspace(-span / 2, span / 2, 9)
        ]
    return _lobes(
        rng, int(rng.integers(cell_type.lobes[0], cell_type.lobes[1] + 1)), at, radius
    )


def _lobes(rng: np.random.Generator, count: int, at, radius: float) -> Circles:
    """Lobes around the middle of a cell, each joined to the next by a thread."""
    away = 0.45 if count < 6 else 0.52
    step = {2: rng.uniform(2.2, 3.1)}.get(count, min(5.6 / count, 1.75))
    size = {2: 0.36, 3: 0.31, 4: 0.27, 5: 0.235}.get(count, 0.2)
    circles: Circles = []
    centers = []
    for i in range(count):
        row, column = at(i * step + rng.normal(0, 0.08), away * rng.uniform(0.88, 1.1))
        centers.append((row, column))
        lobe = size * radius * rng.uniform(0.9, 1.12)
        angle = rng.uniform(0, 2 * math.pi)
        for side in (-0.25, 0.25):
            shift = side * lobe
            circles.append(
                (row + shift * math.sin(angle), column + shift * math.cos(angle), lobe)
            )
    for (row, column), (row2, column2) in pairwise(centers):
        for part in (0.3, 0.4, 0.5, 0.6, 0.7):
            circles.append(
                (row + part * (row2 - row), column + part * (column2 - column), 1.2)
            )
    return circles


def _union(slide: Slide, area: tuple[slice, slice], circles: Circles) -> np.ndarray:
    """Returns the signed distance to a union of circles, pixels."""
    depth = slide.distance(area, circles[0][:2]) - np.float32(circles[0][2])
    for row, column, size in circles[1:]:
        other = slide.distance(area, (row, column)) - np.float32(size)
        np.minimum(depth, other, out=depth)
    return depth


def _hairs(slide, area, center, length: float) -> np.ndarray:
    angle = np.arctan2(slide.rows[area] - center[0], slide.columns[area] - center[1])
    phases = slide.rng.uniform(0, 2 * math.pi, 2)
    waves = np.sin(17 * angle + phases[0]) + np.sin(23 * angle + phases[1])
    return (length * 0.7 * np.clip(waves, -0.4, 2)).astype(np.float32)


def _draw_vacuoles(slide, area, free, center, radius, count: tuple[int, int]) -> None:
    rng = slide.rng
    for _ in range(rng.integers(count[0], count[1] + 1)):
        angle, away = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.2, 0.85)
        spot = (center[0] + away * math.sin(angle), center[1] + away * math.cos(angle))
        size = np.float32(rng.uniform(1.2, 2.4))
        hole = soft(slide.distance(area, spot) - size, 1.5) * free
        slide.density[(slice(None), *area)] *= 1 - 0.8 * hole


def _draw_granules(slide, area, granules, cell, nucleus, center, radius) -> None:
    allowed = np.zeros((SIZE, SIZE), bool)
    outside = True if granules.over_nucleus else nucleus < 0.4
    allowed[area] = (cell > 0.6) & outside
    rng = slide.rng
    count = int(rng.integers(granules.count[0], granules.count[1] + 1))
    size = rng.uniform(*granules.size)
    plane = speckle(rng, count, size, lambda r, c: allowed[r, c], center, radius)
    slide.add(area, plane[area] * np.float32(granules.strength), granules.dye)
