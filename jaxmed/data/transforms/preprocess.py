"""Preprocessing on the device: uint8 images to the network's size, and normalized.

`AnySizePreprocessing` is for programs that are compiled before the images' size is
known. It resizes along an axis by a product with a matrix, whose numbers follow from
height and width; it is written with functions that JAX and torch have alike, so that
programs exported from either do the same.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxmed.data.images.resizing import SQUASH, Resizing, find_start
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.errors import InputError
from jaxmed.image_stats import IMAGENET

IMAGENET_MEAN, IMAGENET_STD = IMAGENET


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Channels, size and scale, as torchvision's Resize, ToTensor and Normalize.

    Hashable, so that it can be a static argument of a jitted step; the images stay
    uint8 in memory until then.

    Attributes:
        image_size: side of the square that images become, at least 1.
        channels: 1 or 3.
        mean, std: per channel, of images scaled to [0, 1].
        resizing: how they become it; "squash" does not keep the aspect ratio.
        window: which gray values became black and white when files of more than 8 bits
            were decoded.

    Raises:
        InputError: a number out of its range, or a mean or std per channel missing.

    Examples:
        >>> preprocessing = Preprocessing(image_size=32)
        >>> preprocessing(jnp.zeros((2, 48, 64, 1), jnp.uint8)).shape
        (2, 32, 32, 3)
    """

    image_size: int
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resizing: Resizing = SQUASH
    window: Window = STORED_BITS

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise InputError(f"image_size must be at least 1, got {self.image_size}.")
        if self.channels not in (1, 3):
            raise InputError(f"channels must be 1 or 3, got {self.channels}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise InputError(
                    f"{name} needs one number for each of {self.channels} channels, "
                    f"got {len(values)}."
                )
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0, got {min(self.std)}.")

    def __call__(self, images: jax.Array) -> jax.Array:
        """Prepare images.

        Args:
            images: uint8 (n, h, w, 1 or 3).

        Returns:
            float32 (n, image_size, image_size, channels), normalized.
        """
        return self.normalize(self.resize(images))

    def reduce_channels(self, images: jax.Array) -> jax.Array:
        """Convert RGB to gray for a network of one channel, uint8 (n, h, w, c)."""
        if self.channels == 1 and images.shape[-1] == 3:
            return _luminance(images)
        return images

    def resize(self, images: jax.Array, side: int | None = None) -> jax.Array:
        """Resize images to the network's size.

        Args:
            images: uint8 (n, h, w, 1 or 3).
            side: pixels of a side to keep, if more than image_size: at most
                `resizing.stored_side(image_size)`.

        Returns:
            float32 (n, image_size, image_size, 1 or 3) in [0, 255], gray where the
            images or the network are; (n, side, side, 1 or 3) with a side.
        """
        images = self.reduce_channels(images).astype(jnp.float32)
        return resize(images, self.image_size, self.resizing, side)

    def square(self, images: jax.Array) -> jax.Array:
        """Pad or crop images to squares without resizing, where their ratio is kept.

        What training crops are cut from: (n, h, w, c) padded or cut to its middle, of
        the type it has; as it is where images are squashed.
        """
        height, width = images.shape[1:3]
        if self.resizing.mode == "squash":
            return images
        longer = self.resizing.mode == "pad"
        return _center(images, max(height, width) if longer else min(height, width))

    def normalize(self, images: jax.Array) -> jax.Array:
        """Normalize float32 in [0, 255]; gray images get the network's channels."""
        # Only here, so that everything before costs a third for gray images.
        mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
        return (images / 255 - mean) / std


def resize(
    images: jax.Array,
    size: int,
    resizing: Resizing = SQUASH,
    side: int | None = None,
) -> jax.Array:
    """Resize to squares: bilinear, antialiased, pixels' centers at half integers.

    Within one gray level of torchvision's Resize on PIL images and on tensors with
    antialias=True. As there, the triangle filter widens when shrinking.

    Args:
        images: float (n, h, w, c).
        size: pixels of a side of the result.
        resizing: how they become squares.
        side: see `Preprocessing.resize`.

    Returns:
        float (n, size, size, c), or (n, side, side, c).
    """
    n, height, width, channels = images.shape
    rows, columns = resizing.resized_shape(height, width, size)
    if (rows, columns) != (height, width):
        images = jax.image.resize(
            images,
            (n, rows, columns, channels),
            "linear",
            antialias=True,
            # Accelerators would multiply at a lower precision, off by a gray level.
            precision=lax.Precision.HIGHEST,
        )
    return _center(images, size, side)


def _center(images: jax.Array, size: int, side: int | None = None) -> jax.Array:
    """Crops and pads (n, h, w, c) to a square as torchvision's CenterCrop."""
    kept = side or size
    for axis in (1, 2):
        length = images.shape[axis]
        start = find_start(length, size, side)
        if start < 0:
            ends = [(0, 0)] * 4
            ends[axis] = (-start, kept - length + start)
            images = jnp.pad(images, ends)
        elif length > kept:
            images = lax.slice_in_dim(images, start, start + kept, axis=axis)
    return images


def _luminance(images: jax.Array) -> jax.Array:
    """RGB to gray, uint8 (n, h, w, 1): ITU-R 601-2 as PIL's convert("L"), to the bit.

    PIL computes (19595 R + 38470 G + 7471 B + 2¹⁵) / 2¹⁶ in integers.
    """
    weights = jnp.asarray([19595, 38470, 7471], jnp.int32)
    total = (images.astype(jnp.int32) * weights).sum(-1, keepdims=True)
    return ((total + 2**15) >> 16).astype(jnp.uint8)


class AnySizePreprocessing(Preprocessing):
    """`Preprocessing` whose images may have a symbolic height and width."""

    def resize(self, images: jax.Array, side: int | None = None) -> jax.Array:
        """Brings images to the network's size, see `Preprocessing.resize`."""
        images = self.reduce_channels(images).astype(jnp.float32)
        down, across = sampling_matrices(
            jnp.arange(images.shape[1]),
            jnp.arange(images.shape[2]),
            size=self.image_size,
            side=side,
            resizing=self.resizing,
            xp=jnp,
        )
        highest = lax.Precision.HIGHEST
        images = jnp.einsum("ih,nhwc->niwc", down, images, precision=highest)
        return jnp.einsum("jw,niwc->nijc", across, images, precision=highest)


def sampling_matrices(
    rows: Any,
    columns: Any,
    *,
    size: int,
    side: int | None,
    resizing: Resizing,
    xp: Any,
) -> tuple[Any, Any]:
    """Computes what resizes images: `down @ image @ across.T` of each channel.

    Args:
        rows, columns: 0, 1, 2, ... up to the height and width of the images, int (h,)
            and (w,).
        size, side, resizing: see `jaxmed.data.transforms.preprocess.resize`.
        xp: `jax.numpy`, `torch` or `numpy`, whose arrays those are.

    Returns:
        float32 (kept, h) and (kept, w), where kept is the side, or else the size.
    """
    lengths = rows[-1] + 1, columns[-1] + 1
    # A side's new length is `target` of `reference`, of which it may be the whole.
    target, reference = size, None
    if resizing.mode == "pad":
        reference = xp.maximum(*lengths)
    elif resizing.mode == "crop":
        target, reference = resizing.stored_side(size), xp.minimum(*lengths)
    matrices = []
    for pixels, length in zip((rows, columns), lengths, strict=True):
        base = length if reference is None else reference
        resized = xp.clip(target * length // base, 1, None)
        start = _start(resized, size, side, xp)
        positions = xp.arange(side or size) + start
        matrices.append(_triangles(pixels, resized, positions, xp))
    down, across = matrices
    return down, across


def _start(length: Any, size: int, side: int | None, xp: Any) -> Any:
    """`find_start` of a length that is an array ()."""
    margin = -find_start(size, size, side)
    padded, cropped = (size - length) // 2, xp.round((length - size) / 2)
    return xp.where(length < size, -padded, cropped - margin)


def _triangles(pixels: Any, resized: Any, positions: Any, xp: Any) -> Any:
    """Returns how much of each pixel is in each place of a resized line.

    Args:
        pixels: (length,) their numbers.
        resized: (), the length of the resized line.
        positions: (kept,) in it; those beyond its ends get nothing.
    """
    scale = (pixels[-1] + 1) / resized
    centers = (positions + 0.5) * scale - 0.5
    # The triangle widens when shrinking, and not when enlarging.
    distances = abs(centers[:, None] - pixels) / xp.clip(scale, 1, None)
    inside = (positions >= 0) & (positions < resized)
    weights = xp.clip(1 - distances, 0, None) * inside[:, None]
    return weights / xp.where(inside, weights.sum(1), 1)[:, None]
