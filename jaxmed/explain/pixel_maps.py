"""Maps of the image's own pixels: by gradients along a path or in noise, by covering.

Each function takes the parts of a model, float32 images (n, h, w, c), int classes (n,)
and the images' indices (n,) among all, and gives `RawMaps`. It calls a jitted step over
and over: inside one jitted loop, XLA's gradients of convolutions are five times slower
on a CPU.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmed.errors import InputError
from jaxmed.explain.network import class_gradients, class_scores
from jaxmed.models.parameters import Parts


class RawMaps(NamedTuple):
    """Maps before any are cut or scaled, and what tells evidence from rounding.

    Attributes:
        maps: float32 (n, h, w), signed.
        scale: float32 (n,), the size of the numbers that a map is a sum or difference
            of; a map that is far smaller is their rounding.
        gap: float32 (n,), how far a map's sum is from the difference of logits that it
            should explain completely, as a share of it; None for other methods.
    """

    maps: jax.Array
    scale: jax.Array
    gap: jax.Array | None = None


def integrated_gradients(
    parts: Parts,
    images: jax.Array,
    classes: jax.Array,
    indices: jax.Array,
    *,
    steps: int = 50,
    baseline: float = 0.0,
) -> RawMaps:
    """Integrates the gradient on the straight way from a baseline to the image.

    Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, eq. 1,
    by the Gauss-Legendre rule, as captum does; summed over the channels. A map's sum is
    the class's logit less that of the baseline (completeness, proposition 1), as
    exactly as `steps` allow; the paper asks for enough of them to be within 5 %.

    Args:
        steps: points on the way, at least 1.
        baseline: value of the pixels at its start; 0, in normalized images, is the
            mean color of the images that the weights are of.
    """
    del indices
    _at_least("steps", steps, 1)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    difference = images - baseline
    total, sizes = jnp.zeros_like(images), jnp.zeros_like(images)
    for share, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = baseline + float(share) * difference
        gradients = float(weight) * class_gradients(*parts, point, classes)
        total, sizes = total + gradients, sizes + jnp.abs(gradients)
    maps = (total * difference).sum(axis=3)
    ends = images, jnp.full_like(images, baseline)
    logits = [class_scores(*parts, end, classes) for end in ends]
    logit_change = logits[0] - logits[1]
    gap = jnp.abs(maps.sum(axis=(1, 2)) - logit_change) / jnp.abs(logit_change)
    return RawMaps(maps, _largest(sizes * jnp.abs(difference)), gap)


def smooth_grad(
    parts: Parts,
    images: jax.Array,
    classes: jax.Array,
    indices: jax.Array,
    *,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> RawMaps:
    """Averages the gradient over noisy copies of the image.

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, section 3.1. The
    map is the largest magnitude among the channels: how sensitive the logit is to a
    pixel, whatever the sign.

    Args:
        samples: copies of each image, at least 1.
        noise: its standard deviation, as a share of the image's range of values.
        seed: of the noise; an image's depends on its place too, not on its batch.
    """
    _at_least("samples", samples, 1)
    _at_least("noise", noise, 0)
    spread = images.max(axis=(1, 2, 3)) - images.min(axis=(1, 2, 3))
    sigmas = (noise * spread)[:, None, None, None]
    total, sizes = jnp.zeros_like(images), jnp.zeros_like(images)
    for sample in range(samples):
        noisy = images + sigmas * draw_noise(seed, indices, sample, images.shape[1:])
        gradients = class_gradients(*parts, noisy, classes) / samples
        total, sizes = total + gradients, sizes + jnp.abs(gradients)
    return RawMaps(jnp.abs(total).max(axis=3), _largest(sizes))


@partial(jax.jit, static_argnames="shape")
def draw_noise(
    seed: int, indices: jax.Array, sample: int, shape: tuple[int, ...]
) -> jax.Array:
    """Draws normal noise (n, h, w, c) for one copy of the image at each place."""

    def draw(index):
        key = jax.random.fold_in(jax.random.key(seed), index)
        return jax.random.normal(jax.random.fold_in(key, sample), shape)

    return jax.vmap(draw)(indices)


def occlusion(
    parts: Parts,
    images: jax.Array,
    classes: jax.Array,
    indices: jax.Array,
    *,
    window: int = 0,
    stride: int = 0,
    baseline: float = 0.0,
) -> RawMaps:
    """Covers the image square by square, and sees how far the logit falls.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV
    2014, section 4.2. A pixel's number is the mean fall over the squares that cover it,
    as captum's `Occlusion` counts; the squares at the right and lower edge are cut off.

    Args:
        window: side of the square in pixels; 0 for a seventh of the shorter side.
        stride: from one square to the next, at most `window`; 0 for half a window.
        baseline: value of the covered pixels.
    """
    del indices
    height, width = images.shape[1:3]
    window = window or max(1, min(height, width) // 7)
    stride = stride or max(1, window // 2)
    _at_least("window", window, 1)
    if not 1 <= stride <= window:
        raise InputError(
            f"stride must be from 1 to the window's {window} pixels, lest pixels be "
            f"left out; got {stride}."
        )
    rows, columns = _squares(height, window, stride), _squares(width, window, stride)
    intact = class_scores(*parts, images, classes)
    sums, sizes = jnp.zeros(images.shape[:3]), jnp.abs(intact)
    for row in rows:
        for column in columns:
            square = row[:, None] * column
            covered = jnp.where(square[:, :, None] > 0, baseline, images)
            left = class_scores(*parts, covered, classes)
            fall, sizes = intact - left, jnp.maximum(sizes, jnp.abs(left))
            sums += fall[:, None, None] * square
    maps = sums / (rows.sum(axis=0)[:, None] * columns.sum(axis=0))
    return RawMaps(maps, sizes)


def _largest(sizes: jax.Array) -> jax.Array:
    """Sums (n, h, w, c) over the channels, and takes each image's largest: (n,)."""
    return sizes.sum(axis=3).max(axis=(1, 2))


def _squares(length: int, window: int, stride: int) -> np.ndarray:
    """Marks with 1, in (squares, length), the pixels that each square covers."""
    count = max(0, math.ceil((length - window) / stride)) + 1
    starts = stride * np.arange(count)[:, None]
    pixels = np.arange(length)
    return ((pixels >= starts) & (pixels < starts + window)).astype(np.float32)


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise InputError(f"{name} must be at least {low}, got {value}.")
