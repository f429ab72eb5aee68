"""DenseNet, as in torchvision/models/densenet.py.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017: DenseNet-BC, with
bottlenecks and compression. Module names are torchvision's.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.initializers import kaiming_normal_in
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.pooling import max_pool

# Below it the last pooling would have nothing left to average.
SMALLEST = 29
# Channels of a bottleneck, as a multiple of the growth rate.
BOTTLENECK = 4


_conv = partial(convolution, init=kaiming_normal_in)


class DenseLayer(nnx.Module):
    """1×1 and 3×3 convolutions, each after its normalization and ReLU."""

    def __init__(self, in_channels: int, growth: int, *, rngs: nnx.Rngs):
        inner = BOTTLENECK * growth
        self.norm1 = BatchNorm(in_channels)
        self.conv1 = _conv(in_channels, inner, 1, rngs=rngs)
        self.norm2 = BatchNorm(inner)
        self.conv2 = _conv(inner, growth, 3, rngs=rngs)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        """Computes the layer's own new channels: (n, h, w, growth)."""
        x = self.conv1(nnx.relu(self.norm1(x, mask=mask)))
        return self.conv2(nnx.relu(self.norm2(x, mask=mask)))


class DenseBlock(nnx.Module):
    """Layers "denselayer1", ... that each see the channels of all before them."""

    def __init__(self, in_channels: int, depth: int, growth: int, *, rngs: nnx.Rngs):
        self.depth = depth
        for i in range(depth):
            layer = DenseLayer(in_channels + i * growth, growth, rngs=rngs)
            setattr(self, f"denselayer{i + 1}", layer)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        for i in range(self.depth):
            layer = getattr(self, f"denselayer{i + 1}")
            x = jnp.concatenate([x, layer(x, mask=mask)], axis=-1)
        return x


class Transition(nnx.Module):
    """Fewer channels and half the resolution, between two blocks."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.norm = BatchNorm(in_channels)
        self.conv = _conv(in_channels, out_channels, 1, rngs=rngs)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None) -> jax.Array:
        x = self.conv(nnx.relu(self.norm(x, mask=mask)))
        return nnx.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNetFeatures(nnx.Module):
    """The layers of torchvision's `features`."""

    def __init__(
        self,
        depths: Sequence[int],
        *,
        in_channels: int,
        width: int,
        growth: int,
        rngs: nnx.Rngs,
    ):
        self.conv0 = _conv(in_channels, width, 7, stride=2, rngs=rngs)
        self.norm0 = BatchNorm(width)
        channels = width
        for i, depth in enumerate(depths, start=1):
            block = DenseBlock(channels, depth, growth, rngs=rngs)
            setattr(self, f"denseblock{i}", block)
            channels += depth * growth
            if i < len(depths):
                transition = Transition(channels, channels // 2, rngs=rngs)
                setattr(self, f"transition{i}", transition)
                channels //= 2
        self.norm5 = BatchNorm(channels)
        self.channels = channels


class DenseNet(nnx.Module):
    """The part of a DenseNet below its head; a `Backbone`.

    Args:
        depths: layers per block, four numbers.
        in_channels: channels of the images.
        width: channels of the stem.
        growth: channels that each layer adds, the paper's k.
        rngs: the stream "params" draws the initial weights.
    """

    stages = (
        ("stem", ("features.conv0", "features.norm0")),
        ("denseblock1", ("features.denseblock1", "features.transition1")),
        ("denseblock2", ("features.denseblock2", "features.transition2")),
        ("denseblock3", ("features.denseblock3", "features.transition3")),
        ("denseblock4", ("features.denseblock4", "features.norm5")),
    )

    def __init__(
        self,
        depths: Sequence[int],
        *,
        in_channels: int = 3,
        width: int = 64,
        growth: int = 32,
        rngs: nnx.Rngs,
    ):
        self.features = DenseNetFeatures(
            depths, in_channels=in_channels, width=width, growth=growth, rngs=rngs
        )
        self.num_features = self.features.channels

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`; the last map is 1/32 of the image.

        The stem rounds sizes up, the transitions round them down. The last map is the
        one that is averaged, after the last normalization and ReLU: what ReLU cuts off
        says nothing for a class. torchvision's `features` ends before that ReLU.

        Raises:
            InputError: images too small for the last transition.
        """
        del rngs
        layers = self.features
        if stage == "stem":
            _check_size(x)
            x = nnx.relu(layers.norm0(layers.conv0(x), mask=mask))
            return max_pool(x, 3, padding=1)
        x = getattr(layers, stage)(x, mask=mask)
        if stage == self.stages[-1][0]:
            return nnx.relu(layers.norm5(x, mask=mask))
        return getattr(layers, stage.replace("denseblock", "transition"))(x, mask=mask)

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space: (n, h, w, c) to (n, c)."""
        del rngs
        return jnp.mean(features, axis=(1, 2))


def _check_size(images: jax.Array) -> None:
    height, width = images.shape[1:3]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"A DenseNet needs images of at least {SMALLEST}×{SMALLEST} pixels, "
            f"got {height}×{width}. Set a larger image size."
        )


# Depths and widths as in torchvision.
CONFIGURATIONS: dict[str, dict] = {
    "densenet121": {"depths": (6, 12, 24, 16)},
    "densenet161": {"depths": (6, 12, 36, 24), "width": 96, "growth": 48},
    "densenet169": {"depths": (6, 12, 32, 32)},
    "densenet201": {"depths": (6, 12, 48, 32)},
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> DenseNet:
    """Builds one of `CONFIGURATIONS` by name."""
    return DenseNet(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
