"""Image files to uint8 arrays: JPEG, PNG, TIFF, BMP and WebP."""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxmed.errors import InputError
from jaxmed.progress import progress

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
# Pixels above which a file counts as a decompression bomb: a few kilobytes can claim
# to be an image of many gigabytes.
MOST_PIXELS = 100_000_000
# How many bad files one sentence names.
SHOWN = 10
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262


class UnusableImage(Exception):
    """A file holds no image that can be used; the message says why."""


def decode(path: Path, image_size: int | None = None) -> np.ndarray:
    """Decodes one file.

    The orientation in EXIF is applied. 16 bits are scaled to 8 by their range, never
    by an image's own extremes, so that brightness stays comparable between images.
    Transparency is dropped, as torchvision's loader does; palettes, CMYK and the like
    become RGB.

    Args:
        path: the file; its content decides the format, not its ending.
        image_size: an image with a side longer than this is squashed to a square of
            this side, as torchvision's `Resize` does with Pillow images. None keeps
            all as they are.

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
    if not content:
        raise UnusableImage("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_header(image)
            ImageOps.exif_transpose(image, in_place=True)
            reduced = _reduce(image)
            if image_size is not None and max(reduced.size) > image_size:
                reduced = _squash(reduced, image_size)
            return _to_array(reduced)
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableImage(_too_large()) from error
    except UnidentifiedImageError as error:
        raise UnusableImage(f"not one of {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:
        # On damaged bytes Pillow raises whatever its parsers stumble over.
        raise UnusableImage(f"damaged or cut off: {error}") from error


def read_images(
    root: Path,
    files: Mapping[str, Sequence[str]],
    *,
    where: str,
    image_size: int | None = None,
) -> dict[str, np.ndarray]:
    """Decodes many files in parallel and brings them to one shape.

    Images larger than `image_size`, and all images if their sizes differ, become
    squares of it while decoding; no more than that is held in memory.

    Args:
        root: the folder that paths start from.
        files: paths below `root`, with forward slashes, by split. None is empty.
        where: the start of a sentence, such as "folder:scans".
        image_size: side of the square, in pixels, that images may be brought to.

    Returns:
        By split, uint8 (n, h, w, c): c is 1 if all images of all splits are grey,
        else 3.

    Raises:
        InputError: files that cannot be used, all in one sentence; or different sizes
            without an `image_size`.
    """
    names = [name for group in files.values() for name in group]
    images = _decode_all(root, names, where, image_size)
    shape = images[0].shape[:2]
    if any(image.shape[:2] != shape for image in images):
        assert image_size is not None, "_decode_all has refused them"
        shape = (image_size, image_size)
    shape = (*shape, max(image.shape[2] for image in images))
    # From the end: memory is freed as it is filled, and never held twice.
    stacked = {
        split: _pop(images, len(files[split]), shape) for split in [*files][::-1]
    }
    return {split: stacked[split] for split in files}


def cannot_use(where: str, bad: Sequence[str], total: int) -> InputError:
    """Returns the error, to be raised by the caller, for files that cannot be used.

    Args:
        where: the start of the sentence, such as "folder:scans".
        bad: a file with its reason in parentheses each.
        total: how many files there are.
    """
    shown = ", ".join(bad[:SHOWN])
    more = f", and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    return InputError(
        f"{where}: {len(bad):,} of {total:,} images cannot be used: {shown}{more}. "
        "Replace or remove them."
    )


def _decode_all(
    root: Path, names: Sequence[str], where: str, image_size: int | None
) -> list[np.ndarray]:
    images: list[np.ndarray] = []
    bad: list[str] = []

    def attempt(name: str) -> np.ndarray | str:
        try:
            return decode(root / name, image_size)
        except UnusableImage as error:
            return f"{name} ({error})"

    # Pillow decodes and resizes outside Python's lock; more threads only contend.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with (
            warnings.catch_warnings(),
            progress(f"Decoding {where}", len(names), unit="images") as advance,
        ):
            # About unknown tags and large images, without the file's name.
            warnings.simplefilter("ignore")
            for name, found in zip(names, pool.map(attempt, names), strict=True):
                if isinstance(found, str):
                    bad.append(found)
                else:
                    images.append(found)
                    if image_size is None and not bad:
                        _check_size(found, images[0], (name, names[0]), where)
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    if bad:
        raise cannot_use(where, bad, len(names))
    return images


def _check_header(image: Image.Image) -> None:
    """Refuses, before pixels are decoded, what cannot be used."""
    if image.width * image.height > MOST_PIXELS:
        raise UnusableImage(_too_large())
    frames = getattr(image, "n_frames", 1)
    # The further frames of an MPO, a camera's JPEG, are previews of the first.
    if frames > 1 and image.format != "MPO":
        raise UnusableImage(f"{frames} frames, and an image is one")
    if image.mode in ("I", "F"):
        raise UnusableImage(
            "signed, 32-bit or floating-point pixels, whose range is not known; save "
            "them with 8 or 16 bits"
        )


def _too_large() -> str:
    return f"more than {MOST_PIXELS:,} pixels"


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


def _squash(image: Image.Image, side: int) -> Image.Image:
    # Without draft(): a JPEG's own scaling is faster but grey levels off.
    return image.resize((side, side), Image.Resampling.BILINEAR)


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[..., None]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    if (red == green).all() and (red == blue).all():
        # A copy, so that the two other channels can be forgotten.
        return red[..., None].copy()
    return pixels


def _check_size(
    image: np.ndarray, first: np.ndarray, names: tuple[str, str], where: str
) -> None:
    if image.shape[:2] == first.shape[:2]:
        return
    (height, width), (first_height, first_width) = image.shape[:2], first.shape[:2]
    raise InputError(
        f"{where}: the images have different sizes ({names[1]} is {first_width} x "
        f"{first_height} pixels, {names[0]} {width} x {height}). Give image_size, the "
        "side of the square to bring them to."
    )


def _pop(
    images: list[np.ndarray], count: int, shape: tuple[int, int, int]
) -> np.ndarray:
    """Moves the last images of a list into an array, at one size."""
    stacked = np.empty((count, *shape), np.uint8)
    for i in reversed(range(count)):
        image = images.pop()
        if image.shape[:2] != shape[:2]:
            grey = image.shape[2] == 1
            picture = Image.fromarray(image[..., 0] if grey else image)
            image = _to_array(_squash(picture, shape[0]))
        stacked[i] = image
    return stacked
