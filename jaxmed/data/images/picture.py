"""A picture file opened by Pillow: its one image, whatever stands beside the pixels."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from jaxmed.data.images.window import RangeNeeded

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"),
    *(".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm"),
)
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
# Pixels above which a file counts as a decompression bomb: a few kilobytes can claim
# to be an image of many gigabytes.
MOST_PIXELS = 100_000_000
# Tags of TIFF and EXIF.
SUBFILE, ORIENTATION = 254, 274
# Of SUBFILE: a smaller copy of another page, or its mask.
COPY_OR_MASK = 0b101
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks of a PNG that decide its pixels.
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"eXIf", b"IDAT", b"IEND")


class UnusableImage(Exception):
    """A file holds no image that can be used; the message says why."""


@contextmanager
def explained() -> Iterator[None]:
    """Turns what Pillow raises into `UnusableImage`."""
    try:
        yield
    except (UnusableImage, RangeNeeded):
        raise
    except Image.DecompressionBombError as error:
        raise too_large() from error
    except UnidentifiedImageError as error:
        raise UnusableImage(
            f"not one of {', '.join(FORMATS)}, or damaged, or a kind that Pillow does "
            "not read"
        ) from error
    except Exception as error:
        # On damaged bytes Pillow raises whatever its parsers stumble over.
        raise UnusableImage(f"damaged or cut off: {error}") from error


def read_content(path: Path) -> bytes:
    """Reads a file that is not empty.

    Raises:
        UnusableImage: it cannot be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage(str(error.strerror)) from error
    if not content:
        raise UnusableImage("the file is empty")
    return content


def too_large() -> UnusableImage:
    """Returns the error, to be raised by the caller, for too many pixels."""
    return UnusableImage(f"more than {MOST_PIXELS:,} pixels")


def open_sound(file: BinaryIO) -> Image.Image:
    """Opens an image of any mode, if need be without its metadata."""
    try:
        return _open(file)
    except UnusableImage:
        raise
    except Exception:
        file.seek(0)
        return _open(io.BytesIO(_without_metadata(file.read())))


def load_sound(content: bytes) -> Image.Image:
    """Decodes an image of any mode, if need be without its metadata."""
    try:
        return _load(content)
    except UnusableImage:
        raise
    except Exception:
        reduced = _without_metadata(content)
        if reduced == content:
            raise
        return _load(reduced)


def _load(content: bytes) -> Image.Image:
    image = _open(io.BytesIO(content))
    image.load()
    return image


def _open(file: BinaryIO) -> Image.Image:
    """Opens an image, and refuses before pixels are decoded what cannot be used."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise too_large()
    frames = _find_frames(image)
    if len(frames) > 1:
        raise UnusableImage(
            f"{len(frames)} frames, and an image is one; save the frame to use as a "
            "file of its own"
        )
    return image


def _find_frames(image: Image.Image) -> list[int]:
    """Returns the numbers of the frames that are images of their own.

    The further ones of an MPO, a camera's JPEG, are previews of the first, and so can
    pages of a TIFF be. The image is left at its one frame.
    """
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    frames = list(range(count))
    if count > 1 and image.format == "TIFF":
        frames = []
        for number in range(count):
            image.seek(number)
            if not image.tag_v2.get(SUBFILE, 0) & COPY_OR_MASK:  # pyright: ignore[reportAttributeAccessIssue]
                frames.append(number)
        if len(frames) == 1:
            image.seek(frames[0])
    return frames or [0]


def read_orientation(image: Image.Image) -> int:
    """Returns EXIF's tag; 1, upright, where there is none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        # Whatever is wrong with the other tags, the pixels are sound.
        return 1


def _without_metadata(content: bytes) -> bytes:
    """Returns a PNG without texts, color profiles and the like, which may be broken.

    Pillow refuses a PNG for any of its chunks, such as a text that is too long. Other
    files are returned as they are.
    """
    if not content.startswith(PNG_SIGNATURE):
        return content
    kept, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[start : start + 8])
        end = start + length + 12
        if name in PNG_CHUNKS:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)
