"""Color augmentation: brightness, contrast, saturation, hue and stains."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxmed.errors import InputError

# ITU-R 601-2, with the digits that torchvision computes with.
LUMINANCE = (0.2989, 0.587, 0.114)
# Rows: what hematoxylin, eosin and DAB (here: the rest) take of red, green and blue
# (Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 2001).
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


class Jitter(NamedTuple):
    """Factors on brightness, contrast and saturation, and what is added to the hue.

    float32 () each; the hue in turns of the color circle.
    """

    brightness: jax.Array
    contrast: jax.Array
    saturation: jax.Array
    hue: jax.Array


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in this order.

    As torchvision's, which shuffles the order. They commute but for colors cut off
    at 0 and 255 and for small changes of the mean. Gray images have neither
    saturation nor hue.

    Attributes:
        brightness, contrast, saturation: the factor is drawn from 1 - that to 1 +
            that, not below 0; at least 0.
        hue: the shift is drawn from -hue to hue, in [0, 0.5].

    Raises:
        InputError: a number out of its range.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"{name} must be at least 0, got {getattr(self, name)}."
                )
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue must be in [0, 0.5], got {self.hue}.")

    def draw(self, key: jax.Array, height: int, width: int) -> Jitter:
        """Draws the factors and the shift."""
        *keys, last = jax.random.split(key, 4)
        spans = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (
            jax.random.uniform(subkey, (), minval=max(0.0, 1 - span), maxval=1 + span)
            for subkey, span in zip(keys, spans, strict=True)
        )
        hue = jax.random.uniform(last, (), minval=-self.hue, maxval=self.hue)
        return Jitter(brightness, contrast, saturation, hue)

    def apply(self, image: jax.Array, jitter: Jitter) -> jax.Array:
        """Changes an image (h, w, 1 or 3) in [0, 255]; what is set to 0 is left out."""
        if self.brightness:
            image = (image * jitter.brightness).clip(0, 255)
        if self.contrast:
            image = _blend(image, _gray(image).mean(), jitter.contrast)
        if image.shape[-1] == 3:
            if self.saturation:
                image = _blend(image, _gray(image), jitter.saturation)
            if self.hue:
                image = _shift_hue(image, jitter.hue)
        return image


class Stain(NamedTuple):
    """A factor on every stain, and what is added to it, float32 (3,) each."""

    factor: jax.Array
    offset: jax.Array


@dataclass(frozen=True, kw_only=True)
class StainJitter:
    """Changes how strongly a section is stained.

    The amounts of hematoxylin, eosin and the rest, c, become a c + b (Tellez et al.,
    IEEE Transactions on Medical Imaging 2018, section III-D). They follow from the
    optical density, -ln(light that comes through), by Ruifrok's matrix. Gray images
    are left alone.

    Attributes:
        sigma: a is drawn from 1 - sigma to 1 + sigma, and b from -sigma to sigma, for
            each stain; in [0, 1].

    Raises:
        InputError: a sigma outside.
    """

    sigma: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 1:
            raise InputError(f"sigma must be in [0, 1], got {self.sigma}.")

    def draw(self, key: jax.Array, height: int, width: int) -> Stain:
        """Draws the factors and what is added."""
        factor, offset = jax.random.uniform(
            key, (2, 3), minval=-self.sigma, maxval=self.sigma
        )
        return Stain(1 + factor, offset)

    def apply(self, image: jax.Array, stain: Stain) -> jax.Array:
        """Stains an image (h, w, 1 or 3) in [0, 255] otherwise."""
        if image.shape[-1] == 1:
            return image
        matrix, exact = jnp.asarray(STAINS), lax.Precision.HIGHEST
        # From 1 to 256, because black would have infinitely much of everything.
        density = -jnp.log((image + 1) / 256)
        amounts = jnp.matmul(density, jnp.linalg.inv(matrix), precision=exact)
        amounts = amounts * stain.factor + stain.offset
        density = jnp.matmul(amounts, matrix, precision=exact)
        return (256 * jnp.exp(-density) - 1).clip(0, 255)


def _blend(image: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    return (share * image + (1 - share) * other).clip(0, 255)


def _gray(image: jax.Array) -> jax.Array:
    """Returns the luminance, (h, w, 1)."""
    if image.shape[-1] == 1:
        return image
    return (image * jnp.asarray(LUMINANCE)).sum(-1, keepdims=True)


def _shift_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns the hue of an RGB image, keeping HSV's saturation and value."""
    high, low = image.max(-1), image.min(-1)
    span = high - low
    red, green, blue = jnp.moveaxis((image - low[..., None]), -1, 0) / jnp.where(
        span > 0, span, 1
    )
    # Sixths of the circle; of several largest channels red goes before green.
    sixths = jnp.where(
        high == image[..., 0],
        green - blue,
        jnp.where(high == image[..., 1], 2 + blue - red, 4 + red - green),
    )
    sixths = sixths / 6 + shift
    # Channel n of 5, 3, 1 falls from its height by a trapezium of n + 6 hue.
    phases = (jnp.asarray((5.0, 3.0, 1.0)) + 6 * sixths[..., None]) % 6
    fall = jnp.minimum(phases, 4 - phases).clip(0, 1)
    return high[..., None] - span[..., None] * fall
