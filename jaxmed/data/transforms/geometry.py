"""Flips and rotations, with torchvision's meaning of every parameter."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxmed.errors import InputError


@dataclass(frozen=True, kw_only=True)
class _Flip:
    """A flip of an image, at random.

    Attributes:
        probability: of flipping, in [0, 1].

    Raises:
        InputError: a probability outside.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def draw(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """Returns whether to flip, bool ()."""
        return jax.random.bernoulli(key, self.probability)


class HorizontalFlip(_Flip):
    """Exchanges left and right, with the given `probability` in [0, 1]."""

    def apply(self, image: jax.Array, flip: jax.Array) -> jax.Array:
        """Flips an image (h, w, c), or not. Pixels stay as they are, to the bit."""
        return jnp.where(flip, image[:, ::-1], image)


class VerticalFlip(_Flip):
    """Exchanges top and bottom, with the given `probability` in [0, 1]."""

    def apply(self, image: jax.Array, flip: jax.Array) -> jax.Array:
        """Flips an image (h, w, c), or not. Pixels stay as they are, to the bit."""
        return jnp.where(flip, image[::-1], image)


@dataclass(frozen=True, kw_only=True)
class QuarterTurns:
    """Turns by 0, 90, 180 or 270 degrees, all equally likely. For squares."""

    def draw(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """Returns how many times 90 degrees, int32 () in 0..3."""
        return jax.random.randint(key, (), 0, 4)

    def apply(self, image: jax.Array, turns: jax.Array) -> jax.Array:
        """Turns an image (s, s, c) counter-clockwise, to the bit."""
        if image.shape[0] != image.shape[1]:
            raise InputError(
                "QuarterTurns needs square images, got "
                f"{image.shape[1]} x {image.shape[0]} pixels."
            )
        # A turn by 90 degrees transposes and flips; one by 180 flips both ways.
        image = jnp.where(turns % 2 == 1, image.swapaxes(0, 1)[::-1], image)
        return jnp.where(turns >= 2, image[::-1, ::-1], image)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Rotates about the center, as torchvision's with bilinear interpolation.

    Attributes:
        degrees: the angle is drawn from -degrees to degrees, in [0, 180].
        fill: what comes in at the corners: "zero" (black) or "edge" (the nearest
            pixel of the border).

    Raises:
        InputError: degrees outside, or another fill.
    """

    degrees: float
    fill: Literal["zero", "edge"] = "zero"

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 180:
            raise InputError(f"degrees must be in [0, 180], got {self.degrees}.")
        if self.fill not in ("zero", "edge"):
            raise InputError(f"fill must be 'zero' or 'edge', got {self.fill!r}.")

    def draw(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """Returns the angle in degrees, float32 ()."""
        return jax.random.uniform(key, (), minval=-self.degrees, maxval=self.degrees)

    def apply(self, image: jax.Array, angle: jax.Array) -> jax.Array:
        """Rotates an image (h, w, c) counter-clockwise."""
        height, width = image.shape[:2]
        y = (jnp.arange(height) - (height - 1) / 2)[:, None]
        x = (jnp.arange(width) - (width - 1) / 2)[None, :]
        cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
        # Where each pixel of the result comes from; rows count downwards.
        rows = sin * x + cos * y + (height - 1) / 2
        columns = cos * x - sin * y + (width - 1) / 2
        return _interpolate(image, rows, columns, self.fill)


def _interpolate(
    image: jax.Array, rows: jax.Array, columns: jax.Array, fill: str
) -> jax.Array:
    """Reads an image between its pixels, bilinear, as torch's grid_sample."""
    height, width, channels = image.shape
    flat = image.reshape(height * width, channels)
    if fill == "edge":
        rows = rows.clip(0, height - 1)
        columns = columns.clip(0, width - 1)
    top = jnp.floor(rows).astype(jnp.int32)
    left = jnp.floor(columns).astype(jnp.int32)
    total = jnp.zeros((*rows.shape, channels), image.dtype)
    for row in (top, top + 1):
        for column in (left, left + 1):
            share = (1 - abs(rows - row)) * (1 - abs(columns - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = row.clip(0, height - 1) * width + column.clip(0, width - 1)
            total += jnp.where(inside, share, 0)[..., None] * flat[index]
    return total


def check_probability(probability: float) -> None:
    """Raises InputError for what is not a probability."""
    if not 0 <= probability <= 1:
        raise InputError(f"probability must be in [0, 1], got {probability}.")
