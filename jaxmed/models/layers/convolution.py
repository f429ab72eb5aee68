"""The convolution that networks with BatchNorm are made of."""

from collections.abc import Sequence
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

Pads = tuple[tuple[int, int], ...]


class Convolution(nnx.Conv):
    """`nnx.Conv`, by other means where XLA's convolutions are many times slower.

    Depthwise ones are sums of shifted maps, but on TPUs. On a CPU XLA takes 10 to 30
    times as long, and MobileNets spend nearly all their time in them; on an NVIDIA GPU
    the gradients of EfficientNet-Lite0 ran at less than a twentieth of its forward
    pass. On a CPU small maps are products of matrices, without which ResNets at 64
    pixels spend nearly all their time in the last stage.
    """

    def __call__(self, inputs: jax.Array, *more: Any) -> jax.Array:
        """Convolve (n, h, w, in_channels) to (n, h', w', out_channels)."""
        depthwise, small = self._is_depthwise(), self._is_small(inputs)
        if not (depthwise or small):
            return super().__call__(inputs, *more)
        bias = None if self.bias is None else self.bias[...]
        arrays = inputs, self.kernel[...], bias
        inputs, kernel, bias = self.promote_dtype(arrays, dtype=self.dtype)
        stride = cast(int, self.strides)
        pads = pads_of(self.padding, inputs.shape[1:3], kernel.shape[0], stride)
        convolve = partial(
            lax.conv_general_dilated,
            window_strides=(stride, stride),
            padding=pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
        )
        # The platform that the program is lowered for decides, not the one that traces
        # it: an exported program may be for another.
        if depthwise:
            shifted = partial(add_shifted, stride=stride, pads=pads)
            maps = lax.platform_dependent(inputs, kernel, tpu=convolve, default=shifted)
        else:
            patches = partial(multiply_patches, stride=stride, pads=pads)
            maps = lax.platform_dependent(inputs, kernel, cpu=patches, default=convolve)
        return maps if bias is None else maps + bias

    def _is_depthwise(self) -> bool:
        _, _, per_group, features = self.kernel.shape
        return self.feature_group_count == features and per_group == 1 < features

    def _is_small(self, inputs: jax.Array) -> bool:
        side = (max(inputs.shape[1:3]) - 1) // cast(int, self.strides) + 1
        return (
            self.feature_group_count == 1 and side <= SMALL and self.kernel.shape[0] > 1
        )


def pads_of(padding: Any, sides: Sequence[int], size: int, stride: int) -> Pads:
    """Return the zeros before and behind each axis of a map.

    Args:
        padding: a number for all, or "SAME": see `convolution`.
        sides: of the map, in pixels.
        size: of the kernel.
        stride: of both axes.
    """
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    pads = lax.padtype_to_pads(sides, (size, size), (stride, stride), padding)
    return tuple(pads)


def multiply_patches(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
    """Convolves by laying out every patch as a row of a matrix.

    Args:
        inputs: (n, h, w, c).
        kernel: (k, k, c, d).
        stride: of both axes.
        pads: zeros before and behind each axis of the map.

    Returns:
        (n, h', w', d).
    """
    shifted = _shifted(inputs, kernel.shape[0], stride, pads)
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def add_shifted(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
    """Convolves every channel with its own kernel, as a sum over the kernel's taps.

    Args:
        inputs: (n, h, w, c).
        kernel: (k, k, 1, c).
        stride: of both axes.
        pads: zeros before and behind each axis of the map.

    Returns:
        (n, h', w', c).
    """
    # Sums of many small products: what lower precision would round, float32 keeps.
    wide = jnp.promote_types(inputs.dtype, jnp.float32)
    shifted = _shifted(inputs.astype(wide), kernel.shape[0], stride, pads)
    weights = kernel.astype(wide).reshape(-1, kernel.shape[-1])
    maps = sum(map(jnp.multiply, shifted[1:], weights[1:]), shifted[0] * weights[0])
    return maps.astype(inputs.dtype)


def _shifted(inputs: jax.Array, size: int, stride: int, pads: Pads) -> list[jax.Array]:
    """Return what each place of a kernel meets, row by row: (n, h', w', c)."""
    padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))
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
    same: bool = False,
    init: Any = kaiming_normal,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Builds a convolution without bias, which the BatchNorm behind it would undo.

    Args:
        in_channels, out_channels: of the maps.
        size: of the kernel, odd.
        stride: of both axes.
        groups: of channels; `in_channels` makes it depthwise.
        same: whether to pad as TensorFlow's "SAME" does: a map of n pixels becomes one
            of ceil(n / stride), and where the zeros it takes cannot be split evenly,
            the odd one is at the end. Otherwise as torch does, size // 2 on each side.
        init: draws the kernel.
        rngs: the stream "params" draws the initial weights.
    """
    return Convolution(
        in_channels,
        out_channels,
        (size, size),
        strides=stride,
        # They differ where the stride is 2 and the side is even.
        padding="SAME" if same else size // 2,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=init,
        rngs=rngs,
    )
