"""The blocks of EfficientNet and EfficientNetV2.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
with squeeze and excitation; the fused ones are from Tan and Le, "EfficientNetV2:
Smaller Models and Faster Training", ICML 2021, fig. 2. Module names are torchvision's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.initializers import kaiming_normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.stochastic_depth import drop_rows


class ConvNorm(nnx.List):
    """A convolution and its normalisation, then SiLU if `activation`.

    Args:
        norm: options of `BatchNorm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
        norm: dict[str, float],
        rngs: nnx.Rngs,
    ):
        conv = convolution(
            in_channels, out_channels, size, stride=stride, groups=groups, rngs=rngs
        )
        super().__init__([conv, BatchNorm(out_channels, **norm)])
        self.activation = activation

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        conv, norm = self
        x = norm(conv(x), mask=mask)
        return nnx.silu(x) if self.activation else x


class SqueezeExcitation(nnx.Module):
    """Weighs each channel by what all channels are on average over the image.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, eq. 2 to 4, with SiLU in
    place of ReLU. The layers are 1×1 convolutions, as in torchvision.
    """

    def __init__(self, channels: int, squeezed: int, *, rngs: nnx.Rngs):
        size, init = (1, 1), kaiming_normal
        self.fc1 = nnx.Conv(channels, squeezed, size, kernel_init=init, rngs=rngs)
        self.fc2 = nnx.Conv(squeezed, channels, size, kernel_init=init, rngs=rngs)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        del mask  # every image is weighed by itself
        averages = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * nnx.sigmoid(self.fc2(nnx.silu(self.fc1(averages))))


class Blocks(NamedTuple):
    """A row of the papers' tables: blocks of one kind and width.

    Attributes:
        fused: whether the blocks are `FusedMBConv`.
        expansion: inner channels, as a multiple of a block's input channels.
        size: of the kernels.
        stride: of the first block; the others have 1.
        out_channels: of every block.
        depth: number of blocks.
    """

    fused: bool
    expansion: int
    size: int
    stride: int
    out_channels: int
    depth: int


class MBConv(nnx.Module):
    """A block: wide inside, narrow outside, with a shortcut where shapes allow.

    1×1 convolution to the inner channels, depthwise convolution, squeeze and
    excitation, 1×1 convolution back.

    Args:
        in_channels: channels of the block's input.
        row: the blocks it is one of.
        stride: its own stride.
        drop: the probability of dropping it while training.
        norm: options of `BatchNorm`.
        rngs: draws the initial weights.
    """

    def __init__(
        self,
        in_channels: int,
        row: Blocks,
        *,
        stride: int,
        drop: float,
        norm: dict[str, float],
        rngs: nnx.Rngs,
    ):
        self.shortcut = stride == 1 and in_channels == row.out_channels
        self.drop = drop
        self.block = nnx.List(self._layers(in_channels, row, stride, norm, rngs))

    def _layers(self, in_channels, row, stride, norm, rngs):
        inner = in_channels * row.expansion
        out, size = row.out_channels, row.size
        layers = []
        if row.expansion > 1:
            layers.append(ConvNorm(in_channels, inner, 1, norm=norm, rngs=rngs))
        return [
            *layers,
            ConvNorm(
                inner, inner, size, stride=stride, groups=inner, norm=norm, rngs=rngs
            ),
            SqueezeExcitation(inner, in_channels // 4, rngs=rngs),
            ConvNorm(inner, out, 1, activation=False, norm=norm, rngs=rngs),
        ]

    def __call__(
        self, x: jax.Array, *, mask: jax.Array | None, rngs: nnx.Rngs | None
    ) -> jax.Array:
        branch = x
        for layer in self.block:
            branch = layer(branch, mask=mask)
        return x + drop_rows(branch, self.drop, rngs=rngs) if self.shortcut else branch


class FusedMBConv(MBConv):
    """An `MBConv` whose first two convolutions are one, without squeezing."""

    def _layers(self, in_channels, row, stride, norm, rngs):
        inner, out, size = in_channels * row.expansion, row.out_channels, row.size
        if row.expansion == 1:
            return [ConvNorm(inner, out, size, stride=stride, norm=norm, rngs=rngs)]
        return [
            ConvNorm(in_channels, inner, size, stride=stride, norm=norm, rngs=rngs),
            ConvNorm(inner, out, 1, activation=False, norm=norm, rngs=rngs),
        ]
