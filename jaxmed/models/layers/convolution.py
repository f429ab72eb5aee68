"""The convolution that networks with BatchNorm are made of."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxmed.models.layers.initializers import kaiming_normal

# Pixels of a side of the output up to which XLA's convolutions for CPUs are slower than
# a product of matrices: a hundred times slower at 2, 1.3 times at 4.
SMALL = 4


class Convolution(nnx.Conv):
    """`nnx.Conv`, on a CPU by other means where XLA's are many times slower.

    Small maps are products of matrices, without which ResNets at 64 pixels spend nearly
    all their time in the last stage. Depthwise ones are sums of shifted maps: XLA takes
    10 to 30 times as long, and MobileNets spend nearly all theirs in them.
    """

    def __call__(self, inputs: jax.Array, *more: Any) -> jax.Array:
        """Convolve (n, h, w, in_channels) to (n, h', w', out_channels)."""
        convolve = self._other_means(inputs)
        if convolve is None:
            return super().__call__(inputs, *more)
        arrays = inputs, self.kernel[...]
        inputs, kernel = self.promote_dtype(arrays, dtype=self.dtype)
        stride, padding = cast(int, self.strides), cast(int, self.padding)
        # The platform that the program is lowered for decides, not the one that traces
        # it: an exported program may be for another.
        return lax.platform_dependent(
            inputs,
            kernel,
            cpu=partial(convolve, stride=stride, padding=padding),
            default=partial(
                lax.conv_general_dilated,
                window_strides=(stride, stride),
                padding=((padding, padding), (padding, padding)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.feature_group_count,
                precision=self.precision,
            ),
        )

    def _other_means(self, inputs: jax.Array) -> Callable[..., jax.Array] | None:
        size, _, per_group, features = self.kernel.shape
        side = (max(inputs.shape[1:3]) - 1) // cast(int, self.strides) + 1
        if self.feature_group_count == features and per_group == 1 < features:
            return add_shifted
        if self.feature_group_count == 1 and side <= SMALL and size > 1:
            return multiply_patches
        return None


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
    shifted = _shifted(inputs, kernel.shape[0], stride, padding)
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def add_shifted(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, padding: int
) -> jax.Array:
    """Convolves every channel with its own kernel, as a sum over the kernel's places.

    Args:
        inputs: (n, h, w, c).
        kernel: (k, k, 1, c).
        stride: of both axes.
        padding: zeros on each side.

    Returns:
        (n, h', w', c).
    """
    shifted = _shifted(inputs, kernel.shape[0], stride, padding)
    places = kernel.reshape(-1, kernel.shape[-1])
    return sum(map(jnp.multiply, shifted[1:], places[1:]), shifted[0] * places[0])


def _shifted(
    inputs: jax.Array, size: int, stride: int, padding: int
) -> list[jax.Array]:
    """Returns what each place of a kernel meets, row by row: (n, h', w', c)."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(inputs, around)
    rows = (padded.shape[1] - size) // stride + 1
    columns = (padded.shape[2] - size) // stride + 1
    return [
        padded[
            :,
            i : i + stride * (rows - 1) + 1 : stride,
            j : j + stride * (columns - 1) + 1 : stride,
        ]
        for i in range(size)
        for j in range(size)
    ]


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
