"""One image file to a uint8 array: JPEG, PNG, TIFF, BMP or WebP."""

import io
from pathlib import Path

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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage(str(error.strerror)) from error
    return decode_content(content, image_size, resizing)


def decode_content(
    content: bytes, image_size: int | None = None, resizing: Resizing = SQUASH
) -> np.ndarray:
    """Decodes what a file holds, as `decode` does."""
    if not content:
        raise UnusableImage("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_header(image)
            ImageOps.exif_transpose(image, in_place=True)
            reduced = _reduce(image)
            if image_size is not None:
                reduced = _shrink(reduced, image_size, resizing)
            return join_equal_channels(np.asarray(reduced))
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise too_large() from error
    except UnidentifiedImageError as error:
        raise UnusableImage(f"not one of {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:
        # On damaged bytes Pillow raises whatever its parsers stumble over.
        raise UnusableImage(f"damaged or cut off: {error}") from error


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
