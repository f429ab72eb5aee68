"""The classes of the drawn blood smears, and how a picture of each is drawn.

The two tables share features (lobes, granules, chromatin, sizes) but no class: what a
backbone learns on SOURCE is of use on TARGET, and no answer is given away. Shapes and
colors follow Romanowsky-stained smears roughly; nothing here is fit for diagnosis.
"""

import math
from collections.abc import Callable

import numpy as np

from jaxmed.data.sources.synthetic_cells import white_cells as w
from jaxmed.data.sources.synthetic_cells.slide import PURPLE, SIZE, Slide, soft, window

Draw = Callable[[Slide], None]


def _white(cell_type: w.WhiteCell) -> Draw:
    def draw(slide: Slide) -> None:
        rng = slide.rng
        radius = rng.uniform(*cell_type.radius) * rng.uniform(0.92, 1.08)
        reach = max(SIZE / 2 - radius * 0.9, 4)
        center = tuple(SIZE / 2 + rng.uniform(-1, 1, 2) * min(reach, 17))
        slide.draw_surroundings(center, radius)
        w.draw_white_cell(slide, cell_type, center, radius)
        if rng.uniform() < 0.5:
            # A red cell that lies over the edge.
            angle, size = rng.uniform(0, 2 * math.pi), rng.uniform(10.5, 14)
            away = radius + size * rng.uniform(0.5, 0.9)
            row, column = center
            point = (row + away * math.sin(angle), column + away * math.cos(angle))
            slide.draw_red_cell(point, size)

    return draw


def _draw_platelet_clump(slide: Slide) -> None:
    rng = slide.rng
    center = tuple(SIZE / 2 + rng.uniform(-17, 17, 2))
    radius = rng.uniform(9, 19)
    slide.draw_surroundings(center, radius)
    for _ in range(int(radius * rng.uniform(0.7, 1.1))):
        angle, away = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.uniform())
        point = (center[0] + away * math.sin(angle), center[1] + away * math.cos(angle))
        slide.draw_platelet(point, rng.uniform(2.2, 4.4))


def _draw_parasites(slide: Slide) -> None:
    rng = slide.rng
    center = tuple(SIZE / 2 + rng.uniform(-17, 17, 2))
    radius = rng.uniform(12, 15)
    slide.draw_surroundings(center, radius)
    slide.draw_red_cell(center, radius)
    for _ in range(rng.integers(1, 4)):
        angle, away = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.1, 0.55)
        point = (center[0] + away * math.sin(angle), center[1] + away * math.cos(angle))
        size = rng.uniform(2.8, 4.2)
        area = window(point, size + 5)
        ring = soft(np.abs(slide.distance(area, point) - np.float32(size)) - 0.7, 1.2)
        slide.add(area, ring * np.float32(0.7), PURPLE)
        angle = rng.uniform(0, 2 * math.pi)
        dot = (point[0] + size * math.sin(angle), point[1] + size * math.cos(angle))
        slide.add(area, soft(slide.distance(area, dot) - np.float32(1.6)), PURPLE)


TARGET: dict[str, Draw] = {
    "neutrophil": _white(
        w.WhiteCell(
            radius=(18, 22),
            nucleus="lobes",
            lobes=(3, 5),
            cytoplasm=w.PALE,
            granules=w.FINE_PINK,
        )
    ),
    "eosinophil": _white(
        w.WhiteCell(
            radius=(18, 22),
            nucleus="lobes",
            lobes=(2, 2),
            cytoplasm=w.ROSE,
            granules=w.ORANGE,
        )
    ),
    "basophil": _white(
        w.WhiteCell(
            radius=(16, 20),
            nucleus="lobes",
            lobes=(2, 3),
            cytoplasm=w.ROSE,
            stain=(0.5, 0.8),
            granules=w.DARK,
        )
    ),
    "lymphocyte": _white(
        w.WhiteCell(
            radius=(12, 15.5),
            nucleus="round",
            fill=(0.8, 0.9),
            cytoplasm=w.LIGHT_BLUE,
            clumps=(0.2, 16),
        )
    ),
    "monocyte": _white(
        w.WhiteCell(
            radius=(22, 27),
            nucleus="arc",
            fill=(0.32, 0.4),
            span=(110, 170),
            cytoplasm=w.GRAY_BLUE,
            stain=(0.65, 0.9),
            vacuoles=(1, 5),
        )
    ),
    "erythroblast": _white(
        w.WhiteCell(
            radius=(11, 15),
            nucleus="round",
            fill=(0.5, 0.62),
            cytoplasm=w.color(206, 178, 196),
            stain=(1.1, 1.4),
            clumps=(0.15, 20),
        )
    ),
    "platelet clump": _draw_platelet_clump,
}
SOURCE: dict[str, Draw] = {
    "band cell": _white(
        w.WhiteCell(
            radius=(18, 22),
            nucleus="arc",
            fill=(0.19, 0.24),
            span=(170, 250),
            cytoplasm=w.PALE,
            granules=w.FINE_PINK,
        )
    ),
    "hypersegmented cell": _white(
        w.WhiteCell(
            radius=(20, 24),
            nucleus="lobes",
            lobes=(6, 8),
            cytoplasm=w.PALE,
            granules=w.FINE_PINK,
        )
    ),
    "two-lobed cell": _white(
        w.WhiteCell(
            radius=(17, 21),
            nucleus="lobes",
            lobes=(2, 2),
            cytoplasm=w.PALE,
            clumps=(0.3, 20),
        )
    ),
    "promyelocyte": _white(
        w.WhiteCell(
            radius=(22, 27),
            nucleus="round",
            fill=(0.6, 0.7),
            off_center=(0.1, 0.25),
            cytoplasm=w.LIGHT_BLUE,
            stain=(0.6, 0.8),
            granules=w.VIOLET,
        )
    ),
    "blast": _white(
        w.WhiteCell(
            radius=(18, 24),
            nucleus="round",
            fill=(0.78, 0.88),
            cytoplasm=w.DEEP_BLUE,
            stain=(0.6, 0.8),
            clumps=(0.1, 24),
            nucleoli=(1, 3),
        )
    ),
    "plasma cell": _white(
        w.WhiteCell(
            radius=(16, 20),
            nucleus="round",
            fill=(0.45, 0.53),
            off_center=(0.32, 0.42),
            cytoplasm=w.DEEP_BLUE,
            clumps=(0.4, 20),
        )
    ),
    "eosinophilic myelocyte": _white(
        w.WhiteCell(
            radius=(18, 23),
            nucleus="round",
            fill=(0.48, 0.58),
            off_center=(0.15, 0.35),
            cytoplasm=w.ROSE,
            granules=w.ORANGE,
        )
    ),
    "mast cell": _white(
        w.WhiteCell(
            radius=(19, 24),
            nucleus="round",
            fill=(0.38, 0.46),
            cytoplasm=w.ROSE,
            granules=w.DARK_OUTSIDE,
        )
    ),
    "hairy cell": _white(
        w.WhiteCell(
            radius=(14, 18),
            nucleus="arc",
            fill=(0.4, 0.5),
            span=(40, 90),
            cytoplasm=w.LIGHT_BLUE,
            stain=(0.7, 0.95),
            hairs=3.0,
        )
    ),
    "parasitised red cell": _draw_parasites,
}

# Of TARGET, which a toy that only needs two classes takes.
PAIR: dict[str, Draw] = {name: TARGET[name] for name in ("lymphocyte", "monocyte")}
