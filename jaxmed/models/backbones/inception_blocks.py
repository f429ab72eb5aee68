"""The blocks of Inception V3, as in torchvision/models/inception.py.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
figures 5 to 7 and 10. Module names are torchvision's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.layers.initializers import normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.pooling import max_pool


def _initial(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    del out_sharding
    # torchvision cuts this off at ±2, twenty standard deviations away.
    return normal(key, shape, 0.1).astype(dtype)


class ConvNorm(nnx.Module):
    """A convolution, BatchNorm and ReLU: torchvision's `BasicConv2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            size,
            strides=stride,
            padding=tuple((p, p) for p in padding),
            use_bias=False,
            kernel_init=_initial,
            rngs=rngs,
        )
        self.bn = BatchNorm(out_channels, epsilon=1e-3)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        return nnx.relu(self.bn(self.conv(x), mask=mask))


class Layer(NamedTuple):
    """A convolution of a branch: torchvision's name, channels, and height and width.

    One that strides has no padding; the others keep the map's size.
    """

    name: str
    channels: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1


# A branch is a chain. "average" and "max" pool; the layers of a tuple within it all
# take what comes before, and their outputs are joined.
Step = Layer | tuple[Layer, ...] | str
Branches = Sequence[Sequence[Step]]


class Mixed(nnx.Module):
    """Branches that all take the same map; their outputs are joined.

    Attributes:
        channels: of the result.
    """

    def __init__(self, in_channels: int, branches: Branches, *, rngs: nnx.Rngs):
        # Tuples, which nnx takes as static.
        self.branches = tuple(map(tuple, branches))
        self.channels = 0
        for branch in self.branches:
            channels = in_channels
            for step in branch:
                if isinstance(step, str):
                    continue
                layers = (step,) if isinstance(step, Layer) else step
                for layer in layers:
                    setattr(self, layer.name, _layer(channels, layer, rngs))
                channels = sum(layer.channels for layer in layers)
            self.channels += channels

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = self._apply(step, y, mask)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)

    def _apply(self, step: Step, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        if isinstance(step, str):
            return _pooled(step, x)
        if isinstance(step, Layer):
            return getattr(self, step.name)(x, mask=mask)
        fork = [getattr(self, layer.name)(x, mask=mask) for layer in step]
        return jnp.concatenate(fork, axis=-1)


def _pooled(kind: str, x: jax.Array) -> jax.Array:
    if kind == "max":
        return max_pool(x, 3)
    # Flax takes explicit padding, though its annotation says "str" alone. As torch's,
    # the average counts the zeros around the map.
    padding: Any = ((1, 1), (1, 1))
    return nnx.avg_pool(x, (3, 3), strides=(1, 1), padding=padding)


def _layer(in_channels: int, layer: Layer, rngs: nnx.Rngs) -> ConvNorm:
    height, width = layer.size
    padding = (height // 2, width // 2) if layer.stride == 1 else (0, 0)
    return ConvNorm(
        in_channels,
        layer.channels,
        layer.size,
        stride=layer.stride,
        padding=padding,
        rngs=rngs,
    )


def _mixed_a(pool_channels: int) -> Branches:
    return (
        (Layer("branch1x1", 64),),
        (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3)),
        ),
        ("average", Layer("branch_pool", pool_channels)),
    )


_MIXED_B = (
    (Layer("branch3x3", 384, (3, 3), 2),),
    (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, (3, 3)),
        Layer("branch3x3dbl_3", 96, (3, 3), 2),
    ),
    ("max",),
)


def _mixed_c(inner: int) -> Branches:
    return (
        (Layer("branch1x1", 192),),
        (
            Layer("branch7x7_1", inner),
            Layer("branch7x7_2", inner, (1, 7)),
            Layer("branch7x7_3", 192, (7, 1)),
        ),
        (
            Layer("branch7x7dbl_1", inner),
            Layer("branch7x7dbl_2", inner, (7, 1)),
            Layer("branch7x7dbl_3", inner, (1, 7)),
            Layer("branch7x7dbl_4", inner, (7, 1)),
            Layer("branch7x7dbl_5", 192, (1, 7)),
        ),
        ("average", Layer("branch_pool", 192)),
    )


_MIXED_D = (
    (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)),
    (
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, (1, 7)),
        Layer("branch7x7x3_3", 192, (7, 1)),
        Layer("branch7x7x3_4", 192, (3, 3), 2),
    ),
    ("max",),
)

_MIXED_E = (
    (Layer("branch1x1", 320),),
    (
        Layer("branch3x3_1", 384),
        (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
    ),
    (
        Layer("branch3x3dbl_1", 448),
        Layer("branch3x3dbl_2", 384, (3, 3)),
        (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
    ),
    ("average", Layer("branch_pool", 192)),
)

MIXED: dict[str, Branches] = {
    "Mixed_5b": _mixed_a(32),
    "Mixed_5c": _mixed_a(64),
    "Mixed_5d": _mixed_a(64),
    "Mixed_6a": _MIXED_B,
    "Mixed_6b": _mixed_c(128),
    "Mixed_6c": _mixed_c(160),
    "Mixed_6d": _mixed_c(160),
    "Mixed_6e": _mixed_c(192),
    "Mixed_7a": _MIXED_D,
    "Mixed_7b": _MIXED_E,
    "Mixed_7c": _MIXED_E,
}
