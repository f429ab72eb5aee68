"""Preprocessing in programs that are compiled before the images' size is known.

Resizing along an axis is a product with a matrix, whose numbers follow from the height
and the width. It is written with functions that JAX and torch have alike, so that
programs exported from either do the same.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxmed.data.images.resizing import Resizing, find_start
from jaxmed.data.transforms.preprocess import Preprocessing


class AnySizePreprocessing(Preprocessing):
    """`Preprocessing` whose images may have a symbolic height and width."""

    def resize(self, images: jax.Array, side: int | None = None) -> jax.Array:
        """Brings images to the network's size, see `Preprocessing.resize`."""
        images = self.reduce_channels(images).astype(jnp.float32)
        down, across = sampling_matrices(
            jnp.arange(images.shape[1]),
            jnp.arange(images.shape[2]),
            size=self.image_size,
            side=side,
            resizing=self.resizing,
            xp=jnp,
        )
        highest = lax.Precision.HIGHEST
        images = jnp.einsum("ih,nhwc->niwc", down, images, precision=highest)
        return jnp.einsum("jw,niwc->nijc", across, images, precision=highest)


def sampling_matrices(
    rows: Any,
    columns: Any,
    *,
    size: int,
    side: int | None,
    resizing: Resizing,
    xp: Any,
) -> tuple[Any, Any]:
    """Computes what resizes images: `down @ image @ across.T` of each channel.

    Args:
        rows, columns: 0, 1, 2, ... up to the height and width of the images, int (h,)
            and (w,).
        size, side, resizing: see `jaxmed.data.transforms.preprocess.resize`.
        xp: `jax.numpy`, `torch` or `numpy`, whose arrays those are.

    Returns:
        float32 (kept, h) and (kept, w), where kept is the side, or else the size.
    """
    lengths = rows[-1] + 1, columns[-1] + 1
    # A side's new length is `target` of `reference`, of which it may be the whole.
    target, reference = size, None
    if resizing.mode == "pad":
        reference = xp.maximum(*lengths)
    elif resizing.mode == "crop":
        target, reference = resizing.stored_side(size), xp.minimum(*lengths)
    matrices = []
    for pixels, length in zip((rows, columns), lengths, strict=True):
        whole = length if reference is None else reference
        resized = xp.clip(target * length // whole, 1, None)
        start = _start(resized, size, side, xp)
        places = xp.arange(side or size) + start
        matrices.append(_triangles(pixels, resized, places, xp))
    down, across = matrices
    return down, across


def _start(length: Any, size: int, side: int | None, xp: Any) -> Any:
    """`find_start` of a length that is an array ()."""
    margin = -find_start(size, size, side)
    padded, cropped = (size - length) // 2, xp.round((length - size) / 2)
    return xp.where(length < size, -padded, cropped - margin)


def _triangles(pixels: Any, resized: Any, places: Any, xp: Any) -> Any:
    """Returns how much of each pixel is in each place of a resized line.

    Args:
        pixels: (length,) their numbers.
        resized: (), the length of the resized line.
        places: (kept,) in it; those beyond its ends get nothing.
    """
    scale = (pixels[-1] + 1) / resized
    centers = (places + 0.5) * scale - 0.5
    # The triangle widens when shrinking, and not when enlarging.
    distances = abs(centers[:, None] - pixels) / xp.clip(scale, 1, None)
    inside = (places >= 0) & (places < resized)
    weights = xp.clip(1 - distances, 0, None) * inside[:, None]
    return weights / xp.where(inside, weights.sum(1), 1)[:, None]
