"""Drawing of a blood smear: fields, red cells, platelets, stain, light and lens.

Everything absorbs light: layers add up as optical densities, and what remains of the
lamp's light is exp(-density) (Beer-Lambert), so that overlapping cells darken as they
do under a microscope. Planes are float32 (3, SIZE, SIZE), RGB first.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

SIZE = 96
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def color(red: int, green: int, blue: int) -> np.ndarray:
    """Returns the density (3, 1, 1) of a dye that looks so on white, 0 < RGB < 256."""
    rgb = np.array([red, green, blue], np.float32)
    return -np.log(rgb / 255).reshape(3, 1, 1)


PINK = color(228, 176, 174)
PLATELET = color(178, 138, 190)
PURPLE = color(104, 58, 150)


def soft(distance: np.ndarray, width: float = 1.3) -> np.ndarray:
    """Returns 1 inside (negative distance) and 0 outside, over `width` pixels."""
    return np.clip(0.5 - distance / np.float32(width), 0, 1)


@cache
def _spread(points: int) -> np.ndarray:
    """Matrix (SIZE, points) that spreads values on a coarse grid over the pixels."""
    centers = (np.arange(points) + 0.5) * SIZE / points
    pixels = np.arange(SIZE) + 0.5
    distance = (pixels[:, None] - centers) * points / SIZE
    weights = np.exp(-0.5 * (distance / 0.7) ** 2)
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    return weights.astype(np.float32)


def noise(rng: np.random.Generator, points: int) -> np.ndarray:
    """Draws a smooth field (SIZE, SIZE), variance 1, with `points` bumps a side.

    At most 24 points: BLAS shares larger products out to threads, which costs more
    than it gains and need not give the same bits everywhere.
    """
    assert points <= 24
    matrix = _spread(points)
    return matrix @ rng.standard_normal((points, points), np.float32) @ matrix.T


def blur(planes: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs the last two axes by a Gaussian of sigma pixels."""
    from scipy import ndimage

    for axis in (-1, -2):
        planes = ndimage.gaussian_filter1d(
            planes, sigma, axis=axis, mode="nearest", truncate=3
        )
    return planes


def speckle(
    rng: np.random.Generator,
    count: int,
    size: float,
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray],
    center: tuple[float, float],
    reach: float,
) -> np.ndarray:
    """Draws granules: a plane (SIZE, SIZE) from 0 to 1.

    Args:
        count: granules tried; those outside are left out.
        size: sigma of a granule, pixels.
        inside: whether granules at rows and columns are wanted, bool (n,).
        center, reach: of the circle they are drawn in, pixels.
    """
    angle = rng.uniform(0, 2 * math.pi, count)
    away = reach * np.sqrt(rng.uniform(0, 1, count))
    rows = center[0] + away * np.sin(angle)
    columns = center[1] + away * np.cos(angle)
    keep = (rows > 1) & (rows < SIZE - 2) & (columns > 1) & (columns < SIZE - 2)
    rows, columns = rows[keep], columns[keep]
    keep = inside(rows.astype(int), columns.astype(int))
    rows, columns = rows[keep], columns[keep]
    plane = np.zeros((SIZE, SIZE), np.float32)
    strength = rng.uniform(0.6, 1.4, len(rows))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    for i, vertical in ((0, 1 - down), (1, down)):
        for j, horizontal in ((0, 1 - right), (1, right)):
            np.add.at(plane, (top + i, left + j), strength * vertical * horizontal)
    peak = 2 * math.pi * size**2
    return 1 - np.exp(-2 * peak * blur(plane, size))


def window(center: tuple[float, float], reach: float) -> tuple[slice, slice]:
    """Returns the rows and columns within `reach` pixels of a center."""
    row, column = center
    top, left = max(int(row - reach), 0), max(int(column - reach), 0)
    bottom, right = max(int(row + reach) + 2, 0), max(int(column + reach) + 2, 0)
    return slice(top, bottom), slice(left, right)


class Slide:
    """A field of view while it is drawn.

    Attributes:
        rng: where all randomness comes from.
        density: float32 (3, SIZE, SIZE), what has been drawn.
        rows, columns: each pixel's position, shaken a little so that no outline is a
            perfect circle.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.density = np.zeros((3, SIZE, SIZE), np.float32)
        self.rows = ROWS + 1.2 * noise(rng, 7)
        self.columns = COLUMNS + 1.2 * noise(rng, 7)

    def distance(
        self, area: tuple[slice, slice], center: tuple[float, float]
    ) -> np.ndarray:
        """Returns pixels to a center, over an area."""
        rows = self.rows[area] - np.float32(center[0])
        columns = self.columns[area] - np.float32(center[1])
        return np.sqrt(rows * rows + columns * columns)

    def add(self, area: tuple[slice, slice], mask: np.ndarray, dye: np.ndarray) -> None:
        """Adds a dye where the mask (0 to 1) is."""
        self.density[(slice(None), *area)] += mask * dye

    def draw_red_cell(self, center: tuple[float, float], radius: float) -> None:
        """Draws a red cell: a disc with a pale middle, sometimes oval."""
        rng = self.rng
        area = window(center, radius * 1.35)
        rows = self.rows[area] - np.float32(center[0])
        columns = self.columns[area] - np.float32(center[1])
        angle, stretch = rng.uniform(0, math.pi), rng.uniform(1.0, 1.22)
        cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        along = (rows * cosine + columns * sine) * np.float32(stretch)
        across = (columns * cosine - rows * sine) / np.float32(stretch)
        distance = np.sqrt(along * along + across * across)
        pale = np.float32(rng.uniform(0.1, 0.75))
        middle = np.exp(-((distance / np.float32(radius * rng.uniform(0.4, 0.6))) ** 2))
        mask = soft(distance - np.float32(radius)) * (1 - pale * middle)
        self.add(area, mask * np.float32(rng.uniform(0.8, 1.25)), PINK)

    def draw_platelet(self, center: tuple[float, float], radius: float) -> None:
        """Draws a platelet: a small pale purple body with a darker, grainy middle."""
        area = window(center, radius * 1.6 + 1)
        distance = self.distance(area, center)
        body = soft(distance - np.float32(radius), 2.0)
        self.add(area, body * np.float32(self.rng.uniform(0.5, 1.0)), PLATELET)
        core = soft(distance - np.float32(radius * 0.5), 2.0)
        self.add(area, core * np.float32(self.rng.uniform(0.2, 0.6)), PURPLE)

    def draw_surroundings(self, center: tuple[float, float], free: float) -> None:
        """Draws red cells and platelets around a cell that takes `free` pixels."""
        rng = self.rng
        size = rng.uniform(10.5, 14)
        for _ in range(rng.integers(4, 15)):
            radius = size * rng.uniform(0.9, 1.1)
            point = rng.uniform(-8, SIZE + 8, 2)
            offset = point - center
            away = math.hypot(*offset) + 1e-6
            if away < free + radius and rng.uniform() < 0.88:
                # Pushed aside: cells touch more often than they overlap.
                point = center + offset / away * (free + radius * rng.uniform(0.7, 1.1))
            self.draw_red_cell((point[0], point[1]), radius)
        for _ in range(rng.integers(0, 4)):
            point = rng.uniform(0, SIZE, 2)
            if math.hypot(*(point - center)) > free + 3:
                self.draw_platelet((point[0], point[1]), rng.uniform(2.0, 3.8))

    def photograph(self) -> np.ndarray:
        """Returns the picture: uint8 (SIZE, SIZE, 3).

        Stain, lamp, focus and camera differ from picture to picture.
        """
        rng = self.rng
        dye = np.exp(rng.normal(0, 0.16, 3) + rng.normal(0, 0.22)).astype(np.float32)
        haze = 0.04 + 0.02 * noise(rng, 4)
        density = blur(self.density * dye.reshape(3, 1, 1), rng.uniform(0.4, 1.2))
        lamp = np.array([244, 238, 236]) * rng.uniform(0.78, 1.05)
        lamp = (lamp * np.exp(rng.normal(0, 0.035, 3))).astype(np.float32)
        tilt = rng.normal(0, 0.1, 2).astype(np.float32)
        light = 1 + tilt[0] * (ROWS / SIZE - 0.5) + tilt[1] * (COLUMNS / SIZE - 0.5)
        picture = lamp.reshape(3, 1, 1) * light * np.exp(-density - haze)
        grain = np.float32(rng.uniform(1.0, 4.0))
        picture += grain * rng.standard_normal((3, SIZE, SIZE), np.float32)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8).transpose(1, 2, 0)
