"""Augmentation of training images on the device, and its presets.

A preset named after a kind of image changes it only in ways that keep its label; one
named after its operations is a list that tutorials use for any images.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

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
from jaxmed.errors import unknown

Crop = RandomResizedCrop | ResizeAndCrop


class Operation(Protocol):
    """An operation on single images: a frozen dataclass of its settings."""

    def draw(self, key: jax.Array, height: int, width: int, /) -> Any:
        """Draw the operation's parameters for one image."""
        ...

    def apply(self, image: jax.Array, drawn: Any, /) -> jax.Array:
        """Apply it to an image, float32 (h, w, 1 or 3) in [0, 255]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Operations on training images, in order; false if there are none.

    Hashable, so that it can be a static argument of a jitted step. Gray images may go
    through all operations: those on hue, saturation or stains leave them as they are.

    Attributes:
        crop: how an image gets the size of the network, from the pixels that are
            stored; None resizes it whole.
        ops: applied at that size.

    Examples:
        >>> augmentation = Augmentation(ops=(HorizontalFlip(), Rotation(degrees=10)))
        >>> images = jnp.zeros((2, 32, 32, 1), jnp.uint8)
        >>> augmentation(images, jax.random.key(0)).shape
        (2, 32, 32, 1)
    """

    crop: Crop | None = None
    ops: tuple[Operation, ...] = ()

    def __bool__(self) -> bool:
        return self.crop is not None or bool(self.ops)

    def __call__(
        self, images: jax.Array, key: jax.Array, size: int | None = None
    ) -> jax.Array:
        """Augment images.

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
            for op, op_key in zip(self.ops, keys, strict=True):
                drawn: Any = op.draw(op_key, *image.shape[:2])
                image = op.apply(image, drawn)
            return image

        # A key for each image, so that batches filled up with padding, as several
        # devices need it, are augmented as others.
        keys = key if key.ndim else jax.random.split(key, len(images))
        return jax.vmap(augment)(images.astype(jnp.float32), keys)

    def describe(self) -> list[dict[str, Any]]:
        """Return the operations in order, with their settings, as JSON can hold."""
        ops: tuple[Any, ...] = (self.crop, *self.ops) if self.crop else self.ops
        return [{"op": type(op).__name__} | asdict(op) for op in ops]


NO_AUGMENTATION = Augmentation()


def augment_stored(
    images: jax.Array,
    key: jax.Array,
    *,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
) -> jax.Array:
    """Bring stored images to the network's size and augment them.

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


def none() -> Augmentation:
    """No augmentation: training images are preprocessed as validation images."""
    return NO_AUGMENTATION


def xray() -> Augmentation:
    """Radiographs: a patient stands a little askew, and exposure varies.

    No flips: mirrored, the heart is on the right, which is a finding (situs inversus),
    and side markers become unreadable; nobody is X-rayed head down. Rotations up to 10
    degrees, about as far as a careful positioning is off, with black corners as at the
    collimator's edge.
    """
    return Augmentation(
        crop=RandomResizedCrop(scale=(0.85, 1.0), ratio=(0.9, 1.1)),
        ops=(Rotation(degrees=10), ColorJitter(brightness=0.1, contrast=0.1)),
    )


def microscopy() -> Augmentation:
    """Cells on a slide: there is no up, and both mirror images are as likely.

    Cells keep their size, which tells types apart, so nothing is scaled. Staining and
    lamp vary a little; hue hardly, because it tells types apart too.
    """
    return Augmentation(
        ops=(
            HorizontalFlip(),
            VerticalFlip(),
            QuarterTurns(),
            ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
        )
    )


def histology() -> Augmentation:
    """Stained sections: any direction, and stains as laboratories differ in them.

    Magnification is fixed, so nothing is scaled. Hematoxylin and eosin vary each on
    its own (Tellez et al. 2018), which a shift of hue would not do.
    """
    return Augmentation(
        ops=(
            HorizontalFlip(),
            VerticalFlip(),
            QuarterTurns(),
            StainJitter(sigma=0.05),
            ColorJitter(brightness=0.1, contrast=0.1),
        )
    )


def dermoscopy() -> Augmentation:
    """Skin lesions: photographed from any side and from varying distance.

    Colors carry the diagnosis (blue-white veil, red, black): they vary little, the
    hue hardly. Corners are filled with the nearest skin, not with black.
    """
    return Augmentation(
        crop=RandomResizedCrop(scale=(0.7, 1.0)),
        ops=(
            HorizontalFlip(),
            VerticalFlip(),
            QuarterTurns(),
            Rotation(degrees=45, fill="edge"),
            ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
        ),
    )


def ultrasound() -> Augmentation:
    """Ultrasound: the probe is above, and gain varies from one examiner to the next.

    No vertical flip: shadow and enhancement lie below what makes them, and tell a cyst
    from a tumor. The probe may be held either way round, so left and right may be
    exchanged. Rotations up to 5 degrees, for the beam comes from above.
    """
    return Augmentation(
        crop=RandomResizedCrop(scale=(0.85, 1.0), ratio=(0.9, 1.1)),
        ops=(
            HorizontalFlip(),
            Rotation(degrees=5),
            ColorJitter(brightness=0.2, contrast=0.2),
        ),
    )


def fundus() -> Augmentation:
    """Photographs of the retina: the mirror image of a right eye is a left one.

    No vertical flip: the vessels' upper and lower arches differ, as do their diseases.
    Heads are tilted up to 15 degrees. Flash and focus vary; hue stays, because pale
    and red are findings.
    """
    return Augmentation(
        crop=RandomResizedCrop(scale=(0.85, 1.0), ratio=(0.9, 1.1)),
        ops=(
            HorizontalFlip(),
            Rotation(degrees=15),
            ColorJitter(brightness=0.2, contrast=0.2, saturation=0.1),
        ),
    )


def flip_rotate_jitter() -> Augmentation:
    """Tutorials on blood cells: flip, rotation 10, color jitter 0.2."""
    return Augmentation(ops=_usual(degrees=10, jitter=0.2))


def shift_flip_rotate_jitter() -> Augmentation:
    """Tutorials on chest X-rays: 256 to 224 pixels, flip, rotation 10, jitter 0.1.

    Resized to 256 / 224 of the network's size, a random square of it is cut out.
    """
    return Augmentation(crop=ResizeAndCrop(), ops=_usual(degrees=10, jitter=0.1))


def zoom_flip() -> Augmentation:
    """Tutorials on folders of images: crops of 0.8 to 1 (resized) and flip."""
    crop = RandomResizedCrop(scale=(0.8, 1.0))
    return Augmentation(crop=crop, ops=(HorizontalFlip(),))


def zoom_flip_rotate_jitter() -> Augmentation:
    """Tutorials on pneumonia: crops of 0.85 to 1, flip, rotation 7, jitter 0.1."""
    crop = RandomResizedCrop(scale=(0.85, 1.0))
    return Augmentation(crop=crop, ops=_usual(degrees=7, jitter=0.1))


def _usual(*, degrees: float, jitter: float) -> tuple:
    return (
        HorizontalFlip(),
        Rotation(degrees=degrees),
        ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter),
    )


PRESETS: dict[str, Callable[[], Augmentation]] = {
    preset.__name__: preset
    for preset in (
        none,
        xray,
        microscopy,
        histology,
        dermoscopy,
        ultrasound,
        fundus,
        flip_rotate_jitter,
        shift_flip_rotate_jitter,
        zoom_flip,
        zoom_flip_rotate_jitter,
    )
}


def create_augmentation(
    preset: str, *, horizontal_flip: bool | None = None, random_erasing: float = 0.0
) -> Augmentation:
    """Return a preset, changed where asked.

    Args:
        preset: one of `PRESETS`.
        horizontal_flip: True and False put it in or leave it out; None is as the
            preset has it.
        random_erasing: the probability of erasing a box, which is done last.

    Raises:
        InputError: no preset of that name, or not a probability.

    Examples:
        >>> [op["op"] for op in create_augmentation("xray").describe()]
        ['RandomResizedCrop', 'Rotation', 'ColorJitter']
    """
    if preset not in PRESETS:
        raise unknown("augmentation", preset, PRESETS)
    augmentation = PRESETS[preset]()
    ops = augmentation.ops
    if horizontal_flip is not None:
        ops = tuple(op for op in ops if not isinstance(op, HorizontalFlip))
        ops = (HorizontalFlip(), *ops) if horizontal_flip else ops
    erasing = RandomErasing(probability=random_erasing)
    return replace(augmentation, ops=(*ops, erasing) if random_erasing else ops)
