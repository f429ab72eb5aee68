"""Random crops, resized, and random erasing."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxmed.data.transforms.geometry import check_probability
from jaxmed.errors import InputError

Range = tuple[float, float]
# How often a box is drawn before giving up, as in torchvision.
TRIES = 10


class Box(NamedTuple):
    """A rectangle of pixels, float32 () each; need not lie on whole pixels."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """Cuts a box out and resizes it, as torchvision's with antialias=True.

    Attributes:
        scale: range of the box's share of the area, in (0, 1].
        ratio: range of its width over its height, above 0; drawn on a log scale.

    Raises:
        InputError: a range that is empty or reaches beyond.
    """

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 1.0)
        check_range("ratio", self.ratio, math.inf)

    def draw(self, key: jax.Array, height: int, width: int, to: tuple[int, int]) -> Box:
        """Draws a box of whole pixels inside an image.

        Where none of ten fits, it is the largest in the middle whose ratio is allowed.
        """
        low, high = self.ratio
        middle = min(height, round(width / low)), min(width, round(height * high))
        tops, rows, columns, fits = _draw_sides(
            key, height, width, self.scale, self.ratio
        )
        fits &= (rows <= height) & (columns <= width)
        chosen, any_fits = jnp.argmax(fits), fits.any()
        rows = jnp.where(any_fits, rows[chosen], middle[0])
        columns = jnp.where(any_fits, columns[chosen], middle[1])
        center = Box(
            jnp.asarray((height - middle[0]) // 2, jnp.float32),
            jnp.asarray((width - middle[1]) // 2, jnp.float32),
            rows,
            columns,
        )
        drawn = _random_box(tops, height, width, rows, columns)
        return jax.tree.map(
            lambda side, fallback: jnp.where(any_fits, side, fallback), drawn, center
        )

    def apply(self, image: jax.Array, box: Box, to: tuple[int, int]) -> jax.Array:
        """Cuts the box out of an image (h, w, c) and resizes it to height and width."""
        ends = (box.top, box.top + box.height), (box.left, box.left + box.width)
        return _read(image, box, to, ends)


@dataclass(frozen=True, kw_only=True)
class ResizeAndCrop:
    """Resizes to more than the network sees and cuts out a square, as torchvision's.

    Attributes:
        factor: side after resizing over side of the crop, at least 1; 256 / 224 is
            Resize((256, 256)) and RandomCrop(224), at any size of network.

    Raises:
        InputError: a factor below 1.
    """

    factor: float = 256 / 224

    def __post_init__(self) -> None:
        if not 1 <= self.factor < math.inf:
            raise InputError(f"factor must be at least 1, got {self.factor}.")

    def draw(self, key: jax.Array, height: int, width: int, to: tuple[int, int]) -> Box:
        """Draws a crop, a whole number of pixels from the resized image's corner."""
        corners = [
            jax.random.randint(side_key, (), 0, round(side * self.factor) - side + 1)
            for side_key, side in zip(jax.random.split(key), to, strict=True)
        ]
        return self.box(corners[0], corners[1], height, width, to)

    def box(
        self,
        top: jax.Array,
        left: jax.Array,
        height: int,
        width: int,
        to: tuple[int, int],
    ) -> Box:
        """Returns the crop at a corner of the resized image, in stored pixels."""
        down = height / round(to[0] * self.factor)
        across = width / round(to[1] * self.factor)
        return Box(
            top * down,
            left * across,
            jnp.asarray(to[0] * down, jnp.float32),
            jnp.asarray(to[1] * across, jnp.float32),
        )

    def apply(self, image: jax.Array, box: Box, to: tuple[int, int]) -> jax.Array:
        """Reads the box of an image (h, w, c) at height times width points."""
        # Pixels beside the box are read too, as they have been resized with it.
        return _read(image, box, to, ((0, image.shape[0]), (0, image.shape[1])))


@dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """Paints a box over (Zhong et al., AAAI 2020), drawn as torchvision's.

    Attributes:
        probability: of doing so, in [0, 1].
        scale: range of the box's share of the area, in (0, 1].
        ratio: range of its height over its width, above 0; drawn on a log scale.
        value: the gray level painted, in [0, 255].

    Raises:
        InputError: a number out of its range.
    """

    probability: float = 0.5
    scale: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    value: float = 0.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("scale", self.scale, 1.0)
        check_range("ratio", self.ratio, math.inf)
        if not 0 <= self.value <= 255:
            raise InputError(f"value must be in [0, 255], got {self.value}.")

    def draw(self, key: jax.Array, height: int, width: int) -> Box:
        """Draws a box of whole pixels; an empty one where nothing is erased."""
        whether, where = jax.random.split(key)
        # torchvision's ratio is the other way round here than for crops.
        ratio = (1 / self.ratio[1], 1 / self.ratio[0])
        corner, rows, columns, fits = _draw_sides(
            where, height, width, self.scale, ratio
        )
        fits &= (rows < height) & (columns < width)
        chosen = jnp.argmax(fits)
        erase = fits.any() & jax.random.bernoulli(whether, self.probability)
        rows = jnp.where(erase, rows[chosen], 0)
        columns = jnp.where(erase, columns[chosen], 0)
        return _random_box(corner, height, width, rows, columns)

    def apply(self, image: jax.Array, box: Box) -> jax.Array:
        """Paints the box of an image (h, w, c); all other pixels stay to the bit."""
        rows = jnp.arange(image.shape[0])[:, None, None]
        columns = jnp.arange(image.shape[1])[None, :, None]
        inside = (rows >= box.top) & (rows < box.top + box.height)
        inside &= (columns >= box.left) & (columns < box.left + box.width)
        return jnp.where(inside, self.value, image)


def check_range(name: str, ends: Range, highest: float) -> None:
    """Raises InputError unless 0 < low <= high <= highest, all finite."""
    low, high = ends
    if not (0 < low <= high <= highest and high < math.inf):
        above = f" and at most {highest:g}" if highest < math.inf else ""
        raise InputError(
            f"{name} must be two numbers that rise, above 0{above}; got {ends}."
        )


def _draw_sides(
    key: jax.Array, height: int, width: int, scale: Range, ratio: Range
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws the sides of several boxes, and where one of them will be.

    Returns:
        A key for the place; rows and columns, float32 (TRIES,); and whether there
        are any, bool (TRIES,).
    """
    position_key, *keys = jax.random.split(key, 3)
    area = (
        height
        * width
        * jax.random.uniform(keys[0], (TRIES,), minval=scale[0], maxval=scale[1])
    )
    over = jnp.exp(
        jax.random.uniform(
            keys[1], (TRIES,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])
        )
    )
    rows, columns = jnp.round(jnp.sqrt(area / over)), jnp.round(jnp.sqrt(area * over))
    return position_key, rows, columns, (rows > 0) & (columns > 0)


def _random_box(
    key: jax.Array, height: int, width: int, rows: jax.Array, columns: jax.Array
) -> Box:
    """Puts a box of whole pixels anywhere inside an image."""
    first, second = jax.random.uniform(key, (2,))
    # Rounding may give 1 of a uniform number below 1.
    top = jnp.minimum(jnp.floor(first * (height - rows + 1)), height - rows)
    left = jnp.minimum(jnp.floor(second * (width - columns + 1)), width - columns)
    return Box(top, left, rows, columns)


def _read(image: jax.Array, box: Box, to: tuple[int, int], ends: tuple) -> jax.Array:
    """Resizes a box of an image, looking at the pixels between `ends` alone."""
    high = lax.Precision.HIGHEST
    down = _weights(image.shape[0], box.top, box.height, to[0], *ends[0])
    across = _weights(image.shape[1], box.left, box.width, to[1], *ends[1])
    image = jnp.einsum("ah,hwc->awc", down, image, precision=high)
    return jnp.einsum("bw,awc->abc", across, image, precision=high)


def _weights(size: int, start, length, count: int, low, high) -> jax.Array:
    """Returns how much each of `size` pixels has of each of `count` new ones.

    The triangle filter of `jaxmed.data.transforms.preprocess.resize`, which widens when
    shrinking; pixels outside of low..high have no share.
    """
    step = length / count
    centers = start + (jnp.arange(count) + 0.5) * step
    pixels = jnp.arange(size)
    distance = abs(pixels + 0.5 - centers[:, None]) / jnp.maximum(step, 1)
    weights = jnp.maximum(1 - distance, 0)
    weights = jnp.where((pixels >= low) & (pixels < high), weights, 0)
    return weights / weights.sum(1, keepdims=True)
