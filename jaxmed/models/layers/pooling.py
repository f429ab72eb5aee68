"""Max pooling with a fast and reproducible gradient."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(images: jax.Array, size: int, padding: int = 0) -> jax.Array:
    """Take the largest of each window of `size` pixels a side, every second one.

    As torch's `max_pool2d` with stride 2, gradient included: of equals, which are
    frequent behind a ReLU, the first in reading order gets it all. XLA's own gradient
    is a scatter: on a CPU it takes as long as several convolutions, and on a GPU it
    adds in an order that changes from run to run.

    Args:
        images: float (n, h, w, c).
        size: 2 or 3 pixels.
        padding: pixels on each side that are smaller than any number.

    Returns:
        float (n, h', w', c), h' = (h + 2 padding - size) // 2 + 1.
    """
    # Flax takes explicit padding, though its annotation says "str" alone.
    around: Any = ((padding, padding), (padding, padding))
    return nnx.max_pool(images, (size, size), strides=(2, 2), padding=around)


def _forward(images: jax.Array, size: int, padding: int) -> tuple[jax.Array, tuple]:
    largest: Any = max_pool(images, size, padding)
    return largest, (images, largest)


def _backward(
    size: int, padding: int, kept: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array]:
    """Adds up, pixel by pixel, what comes from each window that the pixel won.

    A pixel is in at most four windows. Those with an even place in the padded image
    get theirs from other offsets within the window than odd ones, so that the gradient
    is put together from a part for each of the four combinations.
    """
    images, largest = kept
    n, rows, columns, channels = largest.shape
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, around, constant_values=-jnp.inf)
    winner = jnp.zeros(largest.shape, jnp.int32)
    # Backwards, so that the first of equals is what remains.
    for offset in reversed(range(size * size)):
        i, j = divmod(offset, size)
        ends = i + 2 * rows - 1, j + 2 * columns - 1
        here = padded[:, i : ends[0] : 2, j : ends[1] : 2]
        winner = jnp.where(here == largest, offset, winner)

    def part(row: int, column: int) -> jax.Array:
        total = jnp.zeros((n, rows + 1, columns + 1, channels), slope.dtype)
        for i in range(row, size, 2):
            for j in range(column, size, 2):
                won = jnp.where(winner == i * size + j, slope, 0)
                down, right = i // 2, j // 2
                shift = ((0, 0), (down, 1 - down), (right, 1 - right), (0, 0))
                total += jnp.pad(won, shift)
        return total

    parts = [jnp.stack([part(row, 0), part(row, 1)], axis=3) for row in (0, 1)]
    gradient = jnp.stack(parts, axis=2).reshape(
        n, 2 * rows + 2, 2 * columns + 2, channels
    )
    # Pixels right of or below the last window are in none.
    missing = [max(0, n - m) for n, m in zip(padded.shape, gradient.shape, strict=True)]
    gradient = jnp.pad(gradient, [(0, more) for more in missing])
    height, width = images.shape[1:3]
    return (gradient[:, padding : padding + height, padding : padding + width],)


max_pool.defvjp(_forward, _backward)
