"""One image file to a uint8 array: JPEG, PNG, TIFF, BMP or WebP."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxmed.data.resizing import SQUASH, Resizing, make_square

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
# Pixels above which a file counts as a decompression bomb: a few kilobytes can claim
# to be an image of many gigabytes.
MOST_PIXELS = 100_000_000
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262


class UnusableImage(Exception):
    """A file holds no image that can be used; the message says why."""


class FileHeader(NamedTuple):
    """What a file says of its image: pixels as stored, and 1 channel if it is grey.

    A file with colours has 3, even if they are all grey when looked at.
    """

    width: int
    height: int
    channels: int


def decode(
    path: Path, image_size: int | None = None, resizing: Resizing = SQUASH
) -> np.ndarray:
    """Decodes one file.

    The orientation in EXIF is applied. 16 bits are scaled to 8 by their range, never
    by an image's own extremes, so that brightness stays comparable between images.
    Transparency is dropped, as torchvision's loader does; palettes, CMYK and the like
    become RGB.

    Args:
        path: the file; its content decides the format, not its ending.
        image_size: side in pixels that the network gets. An image with a side longer
            than what is kept for it becomes a square, as by torchvision's transforms
            of Pillow images. None keeps all as they are.
        resizing: how, and what is kept.

    Returns:
        uint8 (h, w, 1) if all channels are equal, also in a file with colours; else
        (h, w, 3), RGB.

    Raises:
        UnusableImage: the file cannot be read, is damaged, holds no image or several,
            or more pixels than `MOST_PIXELS`.
    """
    return decode_content(_read(path), image_size, resizing)


def decode_content(
    content: bytes, image_size: int | None = None, resizing: Resizing = SQUASH
) -> np.ndarray:
    """Decodes what a file holds, as `decode` does."""
    with _opened(content) as image:
        if image_size is not None:
            image = _shrink(image, image_size, resizing)
        return join_equal_channels(np.asarray(image))


def decode_square(
    path: Path, image_size: int, resizing: Resizing, channels: int
) -> np.ndarray:
    """Decodes one file to a shape that is known before: smaller ones are enlarged.

    Args:
        path: the file.
        image_size, resizing: as for `decode`.
        channels: 3, or 1 if the file's `FileHeader` has 1.

    Returns:
        uint8 (side, side, channels), by `resizing.stored_side`.

    Raises:
        UnusableImage: as `decode`; or there are colours where there were none.
    """
    with _opened(_read(path)) as image:
        side = resizing.stored_side(image_size)
        if image.size != (side, side):
            image = make_square(image, image_size, resizing)
        if channels == 3:
            return np.asarray(image.convert("RGB"))
        return check_grey(np.asarray(image).reshape(side, side, -1))


def check_grey(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 (h, w, 1) as it is.

    Raises:
        UnusableImage: there are three channels.
    """
    if pixels.shape[2] != 1:
        raise UnusableImage("it has colours, and had none when the data set was loaded")
    return pixels


def read_header(file: BinaryIO) -> FileHeader:
    """Reads what a file says of its image, without the pixels.

    Raises:
        UnusableImage: nothing that `decode` would decode; a file that is damaged
            further on may pass.
    """
    with explained(), Image.open(file, formats=FORMATS) as image:
        _check_header(image)
        grey = image.mode in ("L", "1", "LA", "La") or image.mode.startswith("I;16")
        return FileHeader(image.width, image.height, 1 if grey else 3)


def fit_square(pixels: np.ndarray, image_size: int, resizing: Resizing) -> np.ndarray:
    """Makes an image a square as `decode` does: uint8 (h, w, c) to (side, side, c)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    square = make_square(image, image_size, resizing)
    return join_equal_channels(np.asarray(square))


def too_large() -> UnusableImage:
    """Returns the error, to be raised by the caller, for too many pixels."""
    return UnusableImage(f"more than {MOST_PIXELS:,} pixels")


def join_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Returns (h, w, 1) of (h, w), and of (h, w, 3) if its channels are equal."""
    if pixels.ndim == 2:
        return pixels[..., None]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    if (red == green).all() and (red == blue).all():
        # A copy, so that the two other channels can be forgotten.
        return red[..., None].copy()
    return pixels


@contextmanager
def explained() -> Iterator[None]:
    """Turns what Pillow raises into `UnusableImage`."""
    try:
        yield
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise too_large() from error
    except UnidentifiedImageError as error:
        raise UnusableImage(f"not one of {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:
        # On damaged bytes Pillow raises whatever its parsers stumble over.
        raise UnusableImage(f"damaged or cut off: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableImage(str(error.strerror)) from error


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Gives the image upright, of mode L or RGB."""
    if not content:
        raise UnusableImage("the file is empty")
    with explained(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _check_header(image)
        ImageOps.exif_transpose(image, in_place=True)
        yield _reduce(image)


def _check_header(image: Image.Image) -> None:
    """Refuses, before pixels are decoded, what cannot be used."""
    if image.width * image.height > MOST_PIXELS:
        raise too_large()
    frames = getattr(image, "n_frames", 1)
    # The further frames of an MPO, a camera's JPEG, are previews of the first.
    if frames > 1 and image.format != "MPO":
        raise UnusableImage(f"{frames} frames, and an image is one")
    if image.mode in ("I", "F"):
        raise UnusableImage(
            "signed, 32-bit or floating-point pixels, whose range is not known; save "
            "them with 8 or 16 bits"
        )


def _reduce(image: Image.Image) -> Image.Image:
    """Returns an image of mode L or RGB."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray(_scale_16_bit(image))
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in ("P", "PA"):
        # Straight to RGB, Pillow warns of transparent palettes.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> np.ndarray:
    """Keeps the upper 8 bits, as torchvision's `to_dtype` does.

    A TIFF may hold 12 bits in 16, and may count from white to black; Pillow gives
    those numbers as they are.
    """
    tags = getattr(image, "tag_v2", {})
    bits = 12 if tags.get(BITS_PER_SAMPLE) == (12,) else 16
    pixels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return 255 - pixels if tags.get(PHOTOMETRIC) == 0 else pixels


def _shrink(image: Image.Image, image_size: int, resizing: Resizing) -> Image.Image:
    if max(image.size) <= resizing.stored_side(image_size):
        return image
    return make_square(image, image_size, resizing)
