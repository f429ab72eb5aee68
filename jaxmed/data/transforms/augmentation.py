"""Augmentation: training images changed at random, each in its own way, on device."""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxmed.data.transforms.color import ColorJitter, StainJitter
from jaxmed.data.transforms.crops import RandomErasing, RandomResizedCrop, ResizeAndCrop
from jaxmed.data.transforms.geometry import (
    HorizontalFlip,
    QuarterTurns,
    Rotation,
    VerticalFlip,
)
from jaxmed.data.transforms.preprocess import Preprocessing

Crop = RandomResizedCrop | ResizeAndCrop
Op = (
    HorizontalFlip
    | VerticalFlip
    | QuarterTurns
    | Rotation
    | ColorJitter
    | StainJitter
    | RandomErasing
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training images, in order; false where that is nothing.

    Hashable, so that it can be a static argument of a jitted step. Every operation has
    `draw`, which chooses its parameters for one image, and `apply`, which does what
    they say. Gray images may go through all of them: what concerns hue, saturation or
    stains leaves them alone.

    Attributes:
        crop: how an image gets the size of the network, from the pixels that are
            stored; None resizes it whole.
        ops: what is done at that size.
    """

    crop: Crop | None = None
    ops: tuple[Op, ...] = ()

    def __bool__(self) -> bool:
        return self.crop is not None or bool(self.ops)

    def __call__(
        self, images: jax.Array, key: jax.Array, size: int | None = None
    ) -> jax.Array:
        """Augments images.

        Args:
            images: uint8 or float32 (n, h, w, 1 or 3) in [0, 255].
            key: with its place in the batch it decides what happens to an image. Or
                a key for each image, (n,), which then does so alone.
            size: side of the square that `crop` makes; None keeps height and width.

        Returns:
            float32 in [0, 255], not rounded: (n, size, size, c) after a crop, and
            otherwise of the shape of `images`.
        """
        height, width = images.shape[1:3]
        to = (size, size) if size else (height, width)

        def augment(image, key):
            crop_key, *keys = jax.random.split(key, 1 + len(self.ops))
            if self.crop:
                box = self.crop.draw(crop_key, height, width, to)
                image = self.crop.apply(image, box, to)
            for op, own in zip(self.ops, keys, strict=True):
                drawn: Any = op.draw(own, *image.shape[:2])
                image = op.apply(image, drawn)
            return image

        # A key for each image, so that batches filled up with padding, as several
        # devices need it, are augmented as others.
        keys = key if key.ndim else jax.random.split(key, len(images))
        return jax.vmap(augment)(images.astype(jnp.float32), keys)

    def describe(self) -> list[dict[str, Any]]:
        """Returns the operations in order, with their settings, as JSON can hold."""
        ops = (self.crop, *self.ops) if self.crop else self.ops
        return [{"op": type(op).__name__} | asdict(op) for op in ops]


NO_AUGMENTATION = Augmentation()


def augment_stored(
    images: jax.Array,
    key: jax.Array,
    *,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
) -> jax.Array:
    """Brings stored images to the network's size and augments them.

    Args:
        images: uint8 (n, h, w, 1 or 3).
        key: see `Augmentation`.
        augmentation: a crop in it takes the place of the resizing, of squares where
            that keeps the aspect ratio.
        preprocessing: what `normalize` must follow from.

    Returns:
        float32 (n, image_size, image_size, 1 or 3) in [0, 255].
    """
    if augmentation.crop:
        images = preprocessing.square(preprocessing.reduce_channels(images))
    else:
        images = preprocessing.resize(images)
    return augmentation(images, key, preprocessing.image_size)
