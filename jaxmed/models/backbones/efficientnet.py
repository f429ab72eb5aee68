"""EfficientNet and EfficientNetV2, as in torchvision/models/efficientnet.py.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, table 1 and eq. 3; and "EfficientNetV2: Smaller Models and Faster Training",
ICML 2021, table 4. Module names are torchvision's. The dropout of torchvision's
classifier (0.2 to 0.5) is the head's here: `head="dropout"` has one, of the
probability that `create_model` is given, and `head="linear"` has none.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.backbone import numbers_of
from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.initializers import kaiming_normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.stochastic_depth import drop_rows


class LayerOptions(NamedTuple):
    """What the layers of a network have in common.

    Attributes:
        norm: options of `BatchNorm`.
        activation: behind a convolution and its normalization.
        same: how convolutions are padded; see `convolution`.
        squeeze: whether an `MBConv` has squeeze and excitation.
    """

    norm: dict[str, float]
    activation: Callable[[jax.Array], jax.Array] = nnx.silu
    same: bool = False
    squeeze: bool = True


class ConvNormActivation(nnx.List):
    """A convolution and its normalization, then the activation if `activation`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
        layers: LayerOptions,
        rngs: nnx.Rngs,
    ):
        conv = convolution(
            in_channels,
            out_channels,
            size,
            stride=stride,
            groups=groups,
            same=layers.same,
            rngs=rngs,
        )
        super().__init__([conv, BatchNorm(out_channels, **layers.norm)])
        self.activation = layers.activation if activation else None

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        conv, norm = self
        x = norm(conv(x), mask=mask)
        return x if self.activation is None else self.activation(x)


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
        layers: of the whole network.
        rngs: draws the initial weights.
    """

    def __init__(
        self,
        in_channels: int,
        row: Blocks,
        *,
        stride: int,
        drop: float,
        layers: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.shortcut = stride == 1 and in_channels == row.out_channels
        self.drop = drop
        build = partial(ConvNormActivation, layers=layers, rngs=rngs)
        modules = self._modules(in_channels, row, stride, build)
        if layers.squeeze and not row.fused:
            squeezed = SqueezeExcitation(
                in_channels * row.expansion, in_channels // 4, rngs=rngs
            )
            modules.insert(-1, squeezed)
        self.block = nnx.List(modules)

    def _modules(self, in_channels, row, stride, build) -> list[nnx.Module]:
        inner, out, size = in_channels * row.expansion, row.out_channels, row.size
        expand = [build(in_channels, inner, 1)] if row.expansion > 1 else []
        return [
            *expand,
            build(inner, inner, size, stride=stride, groups=inner),
            build(inner, out, 1, activation=False),
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

    def _modules(self, in_channels, row, stride, build) -> list[nnx.Module]:
        inner, out, size = in_channels * row.expansion, row.out_channels, row.size
        if row.expansion == 1:
            return [build(inner, out, size, stride=stride)]
        return [
            build(in_channels, inner, size, stride=stride),
            build(inner, out, 1, activation=False),
        ]


# The probability of dropping a block grows from 0 for the first one to nearly this.
STOCHASTIC_DEPTH = 0.2


class EfficientNetFeatures(nnx.List):
    """The stem, the rows of blocks and a last 1×1 convolution.

    Of N blocks, block i from 0 is dropped with the probability 0.2 · i / N.
    """

    def __init__(
        self,
        rows: Sequence[Blocks],
        *,
        in_channels: int,
        stem: int,
        last: int,
        layers: LayerOptions,
        rngs: nnx.Rngs,
    ):
        super().__init__()
        self.append(
            ConvNormActivation(in_channels, stem, 3, stride=2, layers=layers, rngs=rngs)
        )
        channels, done = stem, 0
        total = sum(row.depth for row in rows)
        for row in rows:
            block_class = FusedMBConv if row.fused else MBConv
            blocks = nnx.List()
            for i in range(row.depth):
                blocks.append(
                    block_class(
                        channels,
                        row,
                        stride=row.stride if i == 0 else 1,
                        drop=STOCHASTIC_DEPTH * done / total,
                        layers=layers,
                        rngs=rngs,
                    )
                )
                channels, done = row.out_channels, done + 1
            self.append(blocks)
        self.append(ConvNormActivation(channels, last, 1, layers=layers, rngs=rngs))


class EfficientNet(nnx.Module):
    """The part of an EfficientNet below its head; a `Backbone`.

    A stage holds the layers from one halving of the map to the next: "stem" also the
    first row of blocks, and "stage4" also the last convolution.

    Args:
        rows: of the papers' tables.
        in_channels: channels of the images.
        stem, last: channels of the first and of the last convolution.
        layers: of the whole network.
        rngs: the stream "params" draws the initial weights.
    """

    def __init__(
        self,
        rows: Sequence[Blocks],
        *,
        in_channels: int = 3,
        stem: int,
        last: int,
        layers: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.features = EfficientNetFeatures(
            rows,
            in_channels=in_channels,
            stem=stem,
            last=last,
            layers=layers,
            rngs=rngs,
        )
        self.num_features = last
        self.stages = _by_resolution(rows)

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`; the last map is 1/32 of the image, rounded up."""
        for number in numbers_of(self.stages, stage):
            module = self.features[number]
            if number in (0, len(self.features) - 1):
                x = module(x, mask=mask)
            else:
                for block in module:
                    x = block(x, mask=mask, rngs=rngs)
        return x

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space: (n, h, w, c) to (n, c)."""
        del rngs
        return jnp.mean(features, axis=(1, 2))


def _by_resolution(rows: Sequence[Blocks]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Puts the layers of a network together that have maps of one size."""
    stages = [["features.0"]]
    for i, row in enumerate(rows, start=1):
        if row.stride == 2:
            stages.append([])
        stages[-1].append(f"features.{i}")
    stages[-1].append(f"features.{len(rows) + 1}")
    names = ("stem", "stage1", "stage2", "stage3", "stage4")
    return tuple(zip(names, map(tuple, stages), strict=True))


# EfficientNet-B0: fused, expansion, kernel size, stride, channels, blocks.
_B0 = (
    Blocks(False, 1, 3, 1, 16, 1),
    Blocks(False, 6, 3, 2, 24, 2),
    Blocks(False, 6, 5, 2, 40, 2),
    Blocks(False, 6, 3, 2, 80, 3),
    Blocks(False, 6, 5, 1, 112, 3),
    Blocks(False, 6, 5, 2, 192, 4),
    Blocks(False, 6, 3, 1, 320, 1),
)
_V2_S = (
    Blocks(True, 1, 3, 1, 24, 2),
    Blocks(True, 4, 3, 2, 48, 4),
    Blocks(True, 4, 3, 2, 64, 4),
    Blocks(False, 4, 3, 2, 128, 6),
    Blocks(False, 6, 3, 1, 160, 9),
    Blocks(False, 6, 3, 2, 256, 15),
)
_V2_M = (
    Blocks(True, 1, 3, 1, 24, 3),
    Blocks(True, 4, 3, 2, 48, 5),
    Blocks(True, 4, 3, 2, 80, 5),
    Blocks(False, 4, 3, 2, 160, 7),
    Blocks(False, 6, 3, 1, 176, 14),
    Blocks(False, 6, 3, 2, 304, 18),
    Blocks(False, 6, 3, 1, 512, 5),
)
_V2_L = (
    Blocks(True, 1, 3, 1, 32, 4),
    Blocks(True, 4, 3, 2, 64, 7),
    Blocks(True, 4, 3, 2, 96, 7),
    Blocks(False, 4, 3, 2, 192, 10),
    Blocks(False, 6, 3, 1, 224, 19),
    Blocks(False, 6, 3, 2, 384, 25),
    Blocks(False, 6, 3, 1, 640, 7),
)


def _scaled(
    width: float, depth: float, norm: dict[str, float], *, same: bool = False
) -> dict[str, Any]:
    rows = scaled_rows(width, depth)
    return {
        "rows": rows,
        "stem": scaled_channels(32, width),
        "last": 4 * rows[-1].out_channels,
        "layers": LayerOptions(norm, same=same),
    }


def scaled_rows(width: float, depth: float) -> tuple[Blocks, ...]:
    """Scales B0 as the first paper does: channels to a multiple of 8, blocks up."""
    return tuple(
        row._replace(
            out_channels=scaled_channels(row.out_channels, width),
            depth=math.ceil(row.depth * depth),
        )
        for row in _B0
    )


def scaled_channels(count: int, width: float) -> int:
    """Returns `count * width` rounded to a multiple of 8, down by a tenth at most."""
    rounded = max(8, int(count * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * count * width else rounded + 8


def _v2(rows: Sequence[Blocks]) -> dict[str, Any]:
    layers = LayerOptions({"epsilon": 1e-3})
    return {"rows": rows, "stem": rows[0].out_channels, "last": 1280, "layers": layers}


# The two factors of B0 to B7.
_FACTORS = (
    *((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4)),
    *((1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1)),
)
_LARGE_NORM = {"epsilon": 1e-3, "momentum": 0.01}
CONFIGURATIONS: dict[str, dict] = {
    # The options of BatchNorm as in torchvision.
    **{
        f"efficientnet_b{i}": _scaled(*factors, _LARGE_NORM if i >= 5 else {})
        for i, factors in enumerate(_FACTORS)
    },
    "efficientnet_v2_s": _v2(_V2_S),
    "efficientnet_v2_m": _v2(_V2_M),
    "efficientnet_v2_l": _v2(_V2_L),
    # timm's of these names, for weights from TensorFlow: padded as there.
    **{
        f"tf_efficientnet_b{i}": _scaled(*factors, {"epsilon": 1e-3}, same=True)
        for i, factors in enumerate(_FACTORS)
    },
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> EfficientNet:
    """Builds one of `CONFIGURATIONS` by name."""
    return EfficientNet(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
