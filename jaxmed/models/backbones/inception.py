"""Inception V3, as in torchvision/models/inception.py.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
2016. Module names are torchvision's. Its auxiliary head, `AuxLogits`, is left out on
purpose: it served training on ImageNet from scratch, and predictions never use it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.backbones.inception_blocks import MIXED, ConvNorm, Mixed
from jaxmed.models.layers.pooling import max_pool

# Below this the last blocks have no pixel.
MIN_SIZE = 75

# What torchvision's `transform_input` does to images normalised with ImageNet's means
# and deviations: it turns them into images normalised with 0.5 and 0.5.
FACTORS = (0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5)
OFFSETS = ((0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5)


class TransformInput(nnx.Module):
    """Rescales images from ImageNet's normalisation to [-1, 1], if it is switched on.

    torchvision does so with its pretrained weights, which were trained on such images,
    and not with fresh ones. So does jaxmed: `jaxmed_convert.initialize` switches it on
    with torchvision's weights. For a checkpoint of your own from a torchvision model
    that had it on, say `model.backbone.transform_input.on[...] = 1`, or normalise its
    images by means and deviations of 0.5 instead: nothing in the file tells.

    Attributes:
        on: 1 or 0, float32 (). It is among the statistics, which no optimiser changes,
            because weights mean nothing without it: it goes where they go, into
            checkpoints and back out of them.
    """

    def __init__(self):
        self.on = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Rescales (n, h, w, c); channels that are not RGB by the means for RGB."""
        factors, offsets = jnp.asarray(FACTORS), jnp.asarray(OFFSETS)
        if images.shape[-1] != len(FACTORS):
            factors, offsets = factors.mean(), offsets.mean()
        return jnp.where(self.on[...] > 0, images * factors + offsets, images)


class InceptionV3(nnx.Module):
    """The part of Inception V3 below its head; a `Backbone`.

    Its native size is 299 pixels, and the smallest is 75.

    Args:
        in_channels: channels of the images.
        rngs: the stream "params" draws the initial weights.
    """

    stages = (
        (
            "stem",
            (
                "transform_input",
                "Conv2d_1a_3x3",
                "Conv2d_2a_3x3",
                "Conv2d_2b_3x3",
                "Conv2d_3b_1x1",
                "Conv2d_4a_3x3",
            ),
        ),
        ("Mixed_5", ("Mixed_5b", "Mixed_5c", "Mixed_5d")),
        ("Mixed_6", ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")),
        ("Mixed_7", ("Mixed_7a", "Mixed_7b", "Mixed_7c")),
    )

    def __init__(self, *, in_channels: int = 3, rngs: nnx.Rngs):
        def conv(before: int, after: int, size: int, **options: Any) -> ConvNorm:
            return ConvNorm(before, after, (size, size), rngs=rngs, **options)

        self.transform_input = TransformInput()
        self.Conv2d_1a_3x3 = conv(in_channels, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = conv(32, 32, 3)
        self.Conv2d_2b_3x3 = conv(32, 64, 3, padding=(1, 1))
        self.Conv2d_3b_1x1 = conv(64, 80, 1)
        self.Conv2d_4a_3x3 = conv(80, 192, 3)
        channels = 192
        for name, branches in MIXED.items():
            block = Mixed(channels, branches, rngs=rngs)
            setattr(self, name, block)
            channels = block.channels
        self.num_features = channels

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`: the last map of 299 pixels is (n, 8, 8, 2048).

        Raises:
            InputError: images smaller than 75 pixels.
        """
        del rngs
        if stage == "stem":
            return self._run_stem(x, mask)
        for name in dict(self.stages)[stage]:
            x = getattr(self, name)(x, mask=mask)
        return x

    def _run_stem(self, images, mask):
        height, width = images.shape[1:3]
        if min(height, width) < MIN_SIZE:
            raise InputError(
                f"Inception V3 needs images of at least {MIN_SIZE}×{MIN_SIZE} pixels, "
                f"got {height}×{width}. Set a larger image size; 299 is its own."
            )
        x = self.transform_input(images)
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = getattr(self, name)(x, mask=mask)
        x = max_pool(x, 3)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x, mask=mask), mask=mask)
        return max_pool(x, 3)

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Averages over space: (n, h, w, c) to (n, c)."""
        del rngs
        return jnp.mean(features, axis=(1, 2))


CONFIGURATIONS: dict[str, dict] = {"inception_v3": {}}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> InceptionV3:
    """Builds one of `CONFIGURATIONS` by name."""
    return InceptionV3(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
