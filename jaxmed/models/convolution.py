"""The convolution that networks with BatchNorm are made of."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.initializers import kaiming_normal

# Pixels of a side of the output up to which XLA's convolutions for CPUs are slower than
# a product of matrices: a hundred times slower at 2, 1.3 times at 4.
SMALL = 4


class Convolution(nnx.Conv):
    """`nnx.Conv`, on a CPU as a product of matrices where the map is small.

    Without it, ResNets at 64 pixels spend nearly all their time in the last stage.
    """

    def __call__(self, inputs: jax.Array, *more: Any) -> jax.Array:
        """Convolves (n, h, w, in_channels) to (n, h', w', out_channels)."""
        stride, padding = cast(int, self.strides), cast(int, self.padding)
        side = (max(inputs.shape[1:3]) - 1) // stride + 1
        small = side <= SMALL and self.kernel.shape[0] > 1
        if small and self.feature_group_count == 1 and jax.default_backend() == "cpu":
            arrays = inputs, self.kernel[...]
            inputs, kernel = self.promote_dtype(arrays, dtype=self.dtype)
            return multiply_patches(inputs, kernel, stride=stride, padding=padding)
        return super().__call__(inputs, *more)


def multiply_patches(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, padding: int
) -> jax.Array:
    """Convolves by laying out every patch as a row of a matrix.

    Args:
        inputs: (n, h, w, c).
        kernel: (k, k, c, d).
        stride: of both axes.
        padding: zeros on each side.

    Returns:
        (n, h', w', d).
    """
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(inputs, around)
    size, _, _, features = kernel.shape
    rows = (padded.shape[1] - size) // stride + 1
    columns = (padded.shape[2] - size) // stride + 1
    patches = [
        padded[
            :,
            i : i + stride * (rows - 1) + 1 : stride,
            j : j + stride * (columns - 1) + 1 : stride,
        ]
        for i in range(size)
        for j in range(size)
    ]
    matrix = jnp.concatenate(patches, axis=-1)
    return matrix @ kernel.reshape(-1, features)


def convolution(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    init: Any = kaiming_normal,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Builds a convolution without bias, which the BatchNorm behind it would undo."""
    return Convolution(
        in_channels,
        out_channels,
        (size, size),
        strides=stride,
        # torch pads both sides alike; XLA's "SAME" would not when striding.
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=init,
        rngs=rngs,
    )
