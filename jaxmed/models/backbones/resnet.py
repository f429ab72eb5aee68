"""ResNet, ResNeXt and Wide ResNet, as in torchvision/models/resnet.py.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Xie et al.,
"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Zagoruyko
and Komodakis, "Wide Residual Networks", BMVC 2016. As in torchvision, a bottleneck
strides in its 3×3 convolution ("ResNet v1.5"). Module names are torchvision's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.pooling import max_pool


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions and a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, in_channels, width, *, stride, groups, base_width, rngs):
        assert groups == 1, "only bottlenecks have grouped convolutions"
        assert base_width == 64, "only bottlenecks have widened convolutions"
        self.conv1 = convolution(in_channels, width, 3, stride=stride, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = convolution(width, width, 3, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.downsample = _downsample(in_channels, width, stride, rngs)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x), mask=mask))
        y = self.bn2(self.conv2(y), mask=mask)
        return nnx.relu(y + _shortcut(self.downsample, x, mask))


class Bottleneck(nnx.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (ResNet-50 and larger)."""

    expansion = 4

    def __init__(self, in_channels, width, *, stride, groups, base_width, rngs):
        inner = int(width * base_width / 64) * groups
        out_channels = width * self.expansion
        self.conv1 = convolution(in_channels, inner, 1, rngs=rngs)
        self.bn1 = BatchNorm(inner)
        self.conv2 = convolution(
            inner, inner, 3, stride=stride, groups=groups, rngs=rngs
        )
        self.bn2 = BatchNorm(inner)
        self.conv3 = convolution(inner, out_channels, 1, rngs=rngs)
        self.bn3 = BatchNorm(out_channels)
        self.downsample = _downsample(in_channels, out_channels, stride, rngs)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x), mask=mask))
        y = nnx.relu(self.bn2(self.conv2(y), mask=mask))
        y = self.bn3(self.conv3(y), mask=mask)
        return nnx.relu(y + _shortcut(self.downsample, x, mask))


def _downsample(in_channels, out_channels, stride, rngs):
    if stride == 1 and in_channels == out_channels:
        return None
    conv = convolution(in_channels, out_channels, 1, stride=stride, rngs=rngs)
    return nnx.List([conv, BatchNorm(out_channels)])


def _shortcut(downsample, x, mask):
    if downsample is None:
        return x
    conv, norm = downsample
    return norm(conv(x), mask=mask)


class ResNet(nnx.Module):
    """The part of a ResNet below its head; a `Backbone`.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks per stage, four numbers.
        in_channels: channels of the images.
        width: channels of the stem and the first stage; 64 in torchvision's.
        groups, base_width: cardinality and width of a bottleneck's 3×3 convolution.
        rngs: the stream "params" draws the initial weights.
    """

    stages = (
        ("stem", ("conv1", "bn1")),
        ("layer1", ("layer1",)),
        ("layer2", ("layer2",)),
        ("layer3", ("layer3",)),
        ("layer4", ("layer4",)),
    )

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        in_channels: int = 3,
        width: int = 64,
        groups: int = 1,
        base_width: int = 64,
        rngs: nnx.Rngs,
    ):
        self.conv1 = convolution(in_channels, width, 7, stride=2, rngs=rngs)
        self.bn1 = BatchNorm(width)
        channels = width

        def stage(depth: int, width: int, stride: int) -> nnx.List:
            nonlocal channels
            blocks = []
            for i in range(depth):
                blocks.append(
                    block(
                        channels,
                        width,
                        stride=stride if i == 0 else 1,
                        groups=groups,
                        base_width=base_width,
                        rngs=rngs,
                    )
                )
                channels = width * block.expansion
            return nnx.List(blocks)

        self.layer1 = stage(depths[0], width, 1)
        self.layer2 = stage(depths[1], width * 2, 2)
        self.layer3 = stage(depths[2], width * 4, 2)
        self.layer4 = stage(depths[3], width * 8, 2)
        self.num_features = channels

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
        if stage == "stem":
            x = nnx.relu(self.bn1(self.conv1(x), mask=mask))
            return max_pool(x, 3, padding=1)
        for block in getattr(self, stage):
            x = block(x, mask=mask)
        return x

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space: (n, h, w, c) to (n, c)."""
        del rngs
        return jnp.mean(features, axis=(1, 2))


# Blocks, depths and widths as in torchvision; the last entry is jaxmed's own: small
# enough to train in seconds on a CPU, for first steps and for tests.
CONFIGURATIONS: dict[str, dict] = {
    "resnet18": {"block": BasicBlock, "depths": (2, 2, 2, 2)},
    "resnet34": {"block": BasicBlock, "depths": (3, 4, 6, 3)},
    "resnet50": {"block": Bottleneck, "depths": (3, 4, 6, 3)},
    "resnet101": {"block": Bottleneck, "depths": (3, 4, 23, 3)},
    "resnet152": {"block": Bottleneck, "depths": (3, 8, 36, 3)},
    "resnext50_32x4d": {
        "block": Bottleneck,
        "depths": (3, 4, 6, 3),
        "groups": 32,
        "base_width": 4,
    },
    "resnext101_32x8d": {
        "block": Bottleneck,
        "depths": (3, 4, 23, 3),
        "groups": 32,
        "base_width": 8,
    },
    "resnext101_64x4d": {
        "block": Bottleneck,
        "depths": (3, 4, 23, 3),
        "groups": 64,
        "base_width": 4,
    },
    "wide_resnet50_2": {
        "block": Bottleneck,
        "depths": (3, 4, 6, 3),
        "base_width": 128,
    },
    "wide_resnet101_2": {
        "block": Bottleneck,
        "depths": (3, 4, 23, 3),
        "base_width": 128,
    },
    "resnet10_narrow": {"block": BasicBlock, "depths": (1, 1, 1, 1), "width": 16},
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> ResNet:
    """Builds one of `CONFIGURATIONS` by name."""
    return ResNet(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
