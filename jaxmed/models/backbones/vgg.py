"""VGG, with and without batch normalization, as in torchvision/models/vgg.py.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, table 1: configurations A, B, D and E. Module names are
torchvision's. Its two hidden layers of 4096 units are the backbone's pooling here, and
its last layer is the head.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.layers.initializers import kaiming_normal, normal
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.layers.pooling import max_pool
from jaxmed.models.layers.sequential import Numbered

WIDTHS = (64, 128, 256, 512, 512)  # of the five blocks
GRID = 7  # side of the map that the hidden layers take
HIDDEN = 4096
MIN_SIZE = 32  # of images: five poolings halve it
DROPOUT = 0.5


class VGGFeatures(Numbered):
    """Five blocks of 3×3 convolutions, each followed by 2×2 max pooling.

    Attributes:
        blocks: the numbers of each block's layers: (convolution, normalization or
            None) for every convolution.
    """

    def __init__(
        self, depths: Sequence[int], norm: bool, *, in_channels: int, rngs: nnx.Rngs
    ):
        layers, blocks = {}, []
        number, channels = 0, in_channels
        for depth, width in zip(depths, WIDTHS, strict=True):
            block = []
            for _ in range(depth):
                layers[number] = nnx.Conv(
                    channels,
                    width,
                    (3, 3),
                    padding=1,
                    kernel_init=kaiming_normal,
                    rngs=rngs,
                )
                if norm:
                    layers[number + 1] = BatchNorm(width)
                block.append((number, number + 1 if norm else None))
                number += 3 if norm else 2  # with the ReLU
                channels = width
            number += 1  # the max pooling
            blocks.append(tuple(block))
        super().__init__(layers)
        self.blocks = tuple(blocks)


class VGG(nnx.Module):
    """The part of a VGG below its head; a `Backbone`.

    Args:
        depths: convolutions per block, five numbers.
        norm: whether batch normalization follows each convolution.
        pool: "own" for torchvision's two hidden layers; "average" for the mean over
            space in their place, as Keras' VGG16 is used with `include_top=False,
            pooling="avg"`: 512 numbers an image, and nine in ten parameters fewer.
        in_channels: channels of the images.
        rngs: the stream "params" draws the initial weights.
    """

    def __init__(
        self,
        depths: Sequence[int],
        norm: bool,
        *,
        pool: str,
        in_channels: int = 3,
        rngs: nnx.Rngs,
    ):
        self.features = VGGFeatures(depths, norm, in_channels=in_channels, rngs=rngs)
        stages = [
            (f"block{i}", tuple(f"features.{n}" for p in b for n in p if n is not None))
            for i, b in enumerate(self.features.blocks, start=1)
        ]
        if pool == "own":
            pixels = GRID * GRID * WIDTHS[-1]
            self.classifier = Numbered(
                {0: _linear(pixels, rngs), 3: _linear(HIDDEN, rngs)}
            )
            self.dropout = nnx.Dropout(DROPOUT)
            self.num_features = HIDDEN
            stages.append(("classifier", ("classifier",)))
        else:
            self.classifier = None
            self.num_features = WIDTHS[-1]
        self.stages = tuple(stages)

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`; the last map is 1/32 of the image, rounded down.

        The layers of the stage "classifier" are in `pool`.

        Raises:
            InputError: images smaller than 32 pixels.
        """
        del rngs
        if stage == "block1":
            _check_size(x)
        if stage == "classifier":
            return x
        for conv, norm in self.features.blocks[int(stage.removeprefix("block")) - 1]:
            x = self.features[conv](x)
            if norm is not None:
                x = self.features[norm](x, mask=mask)
            x = nnx.relu(x)
        return max_pool(x, 2)

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Maps (n, h, w, 512) to (n, 4096), or to (n, 512) with `pool="average"`."""
        if self.classifier is None:
            return jnp.mean(features, axis=(1, 2))
        x = adaptive_average_pool(features, GRID)
        # Flattened in torch's order, so that the first layer's weight is torch's
        # transposed and no more.
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        for _, layer in self.classifier.items():
            x = nnx.relu(layer(x))
            x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        return x


def _check_size(images: jax.Array) -> None:
    height, width = images.shape[1:3]
    if min(height, width) < MIN_SIZE:
        raise InputError(
            f"A VGG needs images of at least {MIN_SIZE}×{MIN_SIZE} pixels, got "
            f"{height}×{width}. Set a larger image size."
        )


def _linear(in_features: int, rngs: nnx.Rngs) -> nnx.Linear:
    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
        del dtype, out_sharding
        return normal(key, shape, 0.01)

    return nnx.Linear(in_features, HIDDEN, kernel_init=draw, rngs=rngs)


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages a map (n, h, w, c) of any size to (n, size, size, c).

    As torch's `AdaptiveAvgPool2d`: cell i is the mean of the rows from ⌊i·h/size⌋ up
    to, and without, ⌈(i + 1)·h/size⌉. The cells overlap unless size divides h, and
    repeat rows where h is smaller.
    """
    _, height, width, _ = x.shape
    if height == width == size:
        return x
    rows, columns = _shares(height, size), _shares(width, size)
    # On GPU and TPU the default would round the factors.
    return jnp.einsum("ph,qw,nhwc->npqc", rows, columns, x, precision="highest")


def _shares(length: int, size: int) -> np.ndarray:
    """How much each of `length` pixels weighs in each of `size` cells."""
    shares = np.zeros((size, length), np.float32)
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        shares[i, start:stop] = 1 / (stop - start)
    return shares


# "own" is torchvision's; see `VGG`.
POOLS = ("own", "average")

_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
CONFIGURATIONS: dict[str, dict] = {
    name + suffix: {"depths": depths, "norm": suffix == "_bn"}
    for name, depths in _DEPTHS.items()
    for suffix in ("", "_bn")
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs, pool: str = "own") -> VGG:
    """Builds one of `CONFIGURATIONS` by name, with one of `POOLS`."""
    return VGG(**CONFIGURATIONS[name], pool=pool, in_channels=in_channels, rngs=rngs)
