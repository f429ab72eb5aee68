"""MobileNetV2, as in torchvision/models/mobilenetv2.py.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
table 2. Module names are torchvision's. The dropout of 0.2 before torchvision's last
layer belongs to the head: "dropout" has one, and "linear" has none.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.backbone import numbers_of
from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.initializers import kaiming_normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.sequential import Numbered

# Table 2, from the second row: expansion, channels, blocks, stride of the first one.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM = 32
LAST = 1280


class ConvNormReLU6(Numbered):
    """A convolution without bias and its normalization; torch's ReLU6 is "2"."""

    def __init__(self, in_channels, out_channels, size, *, stride=1, groups=1, rngs):
        conv = convolution(
            in_channels, out_channels, size, stride=stride, groups=groups, rngs=rngs
        )
        super().__init__({0: conv, 1: BatchNorm(out_channels)})

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        return nnx.relu6(self[1](self[0](x), mask=mask))


class InvertedResidual(nnx.Module):
    """A 1×1 convolution to more channels, a depthwise 3×3, and a linear 1×1 back.

    The first is not there if the expansion is 1. The input is added if the output has
    its shape.
    """

    def __init__(self, in_channels, out_channels, *, expansion, stride, rngs):
        inner = in_channels * expansion
        layers: list[nnx.Module] = []
        if expansion != 1:
            layers.append(ConvNormReLU6(in_channels, inner, 1, rngs=rngs))
        layers.append(
            ConvNormReLU6(inner, inner, 3, stride=stride, groups=inner, rngs=rngs)
        )
        layers.append(
            nnx.Conv(
                inner,
                out_channels,
                (1, 1),
                use_bias=False,
                kernel_init=kaiming_normal,
                rngs=rngs,
            )
        )
        layers.append(BatchNorm(out_channels))
        self.conv = nnx.List(layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        *expand, project, norm = self.conv
        y = x
        for layer in expand:
            y = layer(y, mask=mask)
        y = norm(project(y), mask=mask)
        return x + y if self.shortcut else y


class MobileNetV2(nnx.Module):
    """The part of a MobileNetV2 below its head; a `Backbone`.

    A stage holds the blocks from one halving of the map to the next, and the last
    one also the final 1×1 convolution.

    Args:
        in_channels: channels of the images.
        rngs: the stream "params" draws the initial weights.
    """

    def __init__(self, *, in_channels: int = 3, rngs: nnx.Rngs):
        blocks: list[nnx.Module] = [
            ConvNormReLU6(in_channels, STEM, 3, stride=2, rngs=rngs)
        ]
        stages = [["features.0"]]
        channels = STEM
        for expansion, width, depth, first_stride in BLOCKS:
            for i in range(depth):
                stride = first_stride if i == 0 else 1
                if stride == 2:
                    stages.append([])
                stages[-1].append(f"features.{len(blocks)}")
                block = InvertedResidual(
                    channels, width, expansion=expansion, stride=stride, rngs=rngs
                )
                blocks.append(block)
                channels = width
        stages[-1].append(f"features.{len(blocks)}")
        blocks.append(ConvNormReLU6(channels, LAST, 1, rngs=rngs))
        self.features = nnx.List(blocks)
        names = ("stem", "stage1", "stage2", "stage3", "stage4")
        self.stages = tuple(zip(names, map(tuple, stages), strict=True))
        self.num_features = LAST

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`; the last map is 1/32 of the image, rounded up."""
        del rngs
        for number in numbers_of(self.stages, stage):
            x = self.features[number](x, mask=mask)
        return x

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space: (n, h, w, 1280) to (n, 1280)."""
        del rngs
        return jnp.mean(features, axis=(1, 2))


CONFIGURATIONS: dict[str, dict] = {"mobilenet_v2": {}}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> MobileNetV2:
    """Builds one of `CONFIGURATIONS` by name."""
    return MobileNetV2(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
