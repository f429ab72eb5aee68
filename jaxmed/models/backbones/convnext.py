"""ConvNeXt, as in torchvision/models/convnext.py.

Liu et al., "A ConvNet for the 2020s", CVPR 2022. A convolutional network without
BatchNorm: its norms are over the channels of each pixel, and the same in training and
prediction. Module names are torchvision's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.backbone import numbers_of
from jaxmed.models.layers.initializers import normal
from jaxmed.models.layers.sequential import Numbered
from jaxmed.models.layers.stochastic_depth import drop_rows

# Below this the last stage has no pixel.
MIN_SIZE = 32


def _initial(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    del out_sharding
    # torchvision cuts this off at ±2, a hundred standard deviations away.
    return normal(key, shape, 0.02).astype(dtype)


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x²] - E[x]², loses digits that torch keeps.
    return nnx.LayerNorm(channels, epsilon=1e-6, use_fast_variance=False, rngs=rngs)


def _conv(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    return nnx.Conv(
        in_channels,
        out_channels,
        (size, size),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        kernel_init=_initial,
        rngs=rngs,
    )


def _linear(in_features: int, out_features: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(in_features, out_features, kernel_init=_initial, rngs=rngs)


class Block(nnx.Module):
    """A depthwise 7×7 convolution and two layers per pixel, beside a shortcut.

    Attributes:
        layer_scale: a factor per channel of the branch, float32 (1, 1, c). It begins
            at 1e-6, so that a fresh block is almost the identity.
    """

    def __init__(self, channels: int, drop_probability: float, *, rngs: nnx.Rngs):
        self.block = Numbered(
            {
                0: _conv(channels, channels, 7, padding=3, groups=channels, rngs=rngs),
                2: _norm(channels, rngs),
                3: _linear(channels, 4 * channels, rngs),
                5: _linear(4 * channels, channels, rngs),
            }
        )
        self.layer_scale = nnx.Param(jnp.full((1, 1, channels), 1e-6))
        self.drop_probability = drop_probability

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None) -> jax.Array:
        y = self.block[2](self.block[0](x))
        # torch's GELU is exact; flax's default is the approximation with tanh.
        y = nnx.gelu(self.block[3](y), approximate=False)
        y = self.block[5](y)
        y = y * self.layer_scale[...].astype(y.dtype)
        return x + drop_rows(y, self.drop_probability, rngs=rngs)


class ConvNeXtFeatures(nnx.List):
    """The layers of torchvision's `features`.

    The stem, then the stages, with what shrinks the map between them.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        drop_probability: float,
        in_channels: int,
        rngs: nnx.Rngs,
    ):
        stem = _conv(in_channels, widths[0], 4, stride=4, rngs=rngs)
        modules: list[nnx.Module] = [Numbered({0: stem, 1: _norm(widths[0], rngs)})]
        # The first block is never left out, and the last one most often.
        step = drop_probability / (sum(depths) - 1)
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i > 0:
                before = widths[i - 1]
                shrink = _conv(before, width, 2, stride=2, rngs=rngs)
                modules.append(Numbered({0: _norm(before, rngs), 1: shrink}))
            first = sum(depths[:i])
            blocks = [Block(width, step * (first + j), rngs=rngs) for j in range(depth)]
            modules.append(nnx.List(blocks))
        super().__init__(modules)


class ConvNeXt(nnx.Module):
    """The part of a ConvNeXt below its head; a `Backbone`.

    Args:
        depths: blocks per stage.
        widths: channels per stage.
        drop_probability: of the last block's branch, by stochastic depth; it rises
            linearly from 0 for the first block's.
        in_channels: channels of the images.
        rngs: the stream "params" draws the initial weights.
    """

    stages = (
        ("stem", ("features.0",)),
        ("stage1", ("features.1",)),
        ("stage2", ("features.2", "features.3")),
        ("stage3", ("features.4", "features.5")),
        ("stage4", ("features.6", "features.7", "classifier.0")),
    )

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        drop_probability: float,
        *,
        in_channels: int = 3,
        rngs: nnx.Rngs,
    ):
        self.features = ConvNeXtFeatures(
            depths, widths, drop_probability, in_channels, rngs
        )
        self.classifier = Numbered({0: _norm(widths[-1], rngs)})
        self.num_features = widths[-1]

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`; every step down rounds sizes down.

        Raises:
            InputError: images smaller than 32 pixels.
        """
        del mask  # No norm here looks at more than one pixel.
        if stage == "stem":
            _check_size(x)
        for number in numbers_of(self.stages, stage):
            for module in self.features[number]:
                x = module(x, rngs=rngs) if number % 2 else module(x)
        return x

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space and normalizes: (n, h, w, c) to (n, c).

        The norm is the first layer of torchvision's `classifier`.
        """
        del rngs
        x = jnp.mean(features, axis=(1, 2), keepdims=True)
        return self.classifier[0](x).reshape(x.shape[0], -1)


def _check_size(images: jax.Array) -> None:
    height, width = images.shape[1:3]
    if min(height, width) < MIN_SIZE:
        raise InputError(
            f"ConvNeXt needs images of at least {MIN_SIZE}×{MIN_SIZE} pixels, got "
            f"{height}×{width}. Set a larger image size."
        )


# Depths, widths and stochastic depth as in torchvision.
CONFIGURATIONS: dict[str, dict] = {
    "convnext_tiny": {
        "depths": (3, 3, 9, 3),
        "widths": (96, 192, 384, 768),
        "drop_probability": 0.1,
    },
    "convnext_small": {
        "depths": (3, 3, 27, 3),
        "widths": (96, 192, 384, 768),
        "drop_probability": 0.4,
    },
    "convnext_base": {
        "depths": (3, 3, 27, 3),
        "widths": (128, 256, 512, 1024),
        "drop_probability": 0.5,
    },
    "convnext_large": {
        "depths": (3, 3, 27, 3),
        "widths": (192, 384, 768, 1536),
        "drop_probability": 0.5,
    },
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> ConvNeXt:
    """Builds one of `CONFIGURATIONS` by name."""
    return ConvNeXt(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
