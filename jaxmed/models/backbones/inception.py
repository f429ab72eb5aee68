"""Inception V3, as in torchvision/models/inception.py.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
2016. Module names are torchvision's. Its auxiliary head, `AuxLogits`, is left out on
purpose: it served training on ImageNet from scratch, and predictions never use it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.layers.initializers import normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.pooling import max_pool


def _initial(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    del out_sharding
    # torchvision cuts this off at ±2, twenty standard deviations away.
    return normal(key, shape, 0.1).astype(dtype)


class ConvNormReLU(nnx.Module):
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


def _pooled(mode: str, x: jax.Array) -> jax.Array:
    if mode == "max":
        return max_pool(x, 3)
    # Flax takes explicit padding, though its annotation says "str" alone. As torch's,
    # the average counts the zeros around the map.
    padding: Any = ((1, 1), (1, 1))
    return nnx.avg_pool(x, (3, 3), strides=(1, 1), padding=padding)


def _layer(in_channels: int, layer: Layer, rngs: nnx.Rngs) -> ConvNormReLU:
    height, width = layer.size
    padding = (height // 2, width // 2) if layer.stride == 1 else (0, 0)
    return ConvNormReLU(
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


# Below this the last blocks have no pixel.
MIN_SIZE = 75

# What torchvision's `transform_input` does to images normalized with ImageNet's means
# and deviations: it turns them into images normalized with 0.5 and 0.5.
FACTORS = (0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5)
OFFSETS = ((0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5)


class TransformInput(nnx.Module):
    """Rescales images from ImageNet's normalization to [-1, 1], if it is switched on.

    torchvision does so with its pretrained weights, which were trained on such images,
    and not with fresh ones. So does jaxmed: `jaxmed_convert.initialize` switches it on
    with torchvision's weights. For a checkpoint of your own from a torchvision model
    that had it on, say `model.backbone.transform_input.on[...] = 1`, or normalize its
    images by means and deviations of 0.5 instead: nothing in the file tells.

    Attributes:
        on: 1 or 0, float32 (). It is among the statistics, which no optimizer changes,
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
        def conv(before: int, after: int, size: int, **options: Any) -> ConvNormReLU:
            return ConvNormReLU(before, after, (size, size), rngs=rngs, **options)

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
