"""Picture files that Pillow reads: headers, gray values and decoded images."""

import io
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImagePalette, UnidentifiedImageError

from jaxmed.data.images.window import Gray, RangeNeeded, Window

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"),
    *(".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm"),
)
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
# Pixels above which a file counts as a decompression bomb: a few kilobytes can claim
# to be an image of many gigabytes.
MOST_PIXELS = 100_000_000
# Tags of TIFF and EXIF.
SUBFILE, ORIENTATION = 254, 274
BITS_PER_SAMPLE, PHOTOMETRIC, COLOR_MAP = 258, 262, 320
# Of SUBFILE: a smaller copy of another page, or its mask.
COPY_OR_MASK = 0b101
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Of colors, or gray with transparency, of 16 bits Pillow decodes the first byte in this
# order; in the other order it decodes the second one.
OTHER_ORDER = {"16B": "16L", "16L": "16B"}
OTHER_ORDER["16N"] = "16B" if sys.byteorder == "little" else "16L"
# Chunks of a PNG that decide its pixels.
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"eXIf", b"IDAT", b"IEND")


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNKNOWN_RANGE = (
    "signed, 32-bit or floating-point pixels, whose range is not known; save them with "
    "8 or 16 bits, or set data.window to percentile:LOW,HIGH or CENTER,WIDTH"
)

# How a file's gray values become levels, by what `data.window` does to them: pictures
# of 8 bits and colors are left alone; a gray scale may be given by the file, or not, or
# not even the range of the stored values.
PLAIN, OWN_SCALE, STORED_SCALE, NO_SCALE = range(4)


class FileHeader(NamedTuple):
    """What a file says of its image.

    Attributes:
        width, height: pixels as stored.
        channels: 1 if it is gray; a file with colors has 3, even if they are all gray
            when looked at.
        mode: Pillow's, such as L (gray), RGB, P (palette) or I;16; or how DICOM calls
            the colors.
        scale: `PLAIN`, `OWN_SCALE`, `STORED_SCALE` or `NO_SCALE`.
    """

    width: int
    height: int
    channels: int
    mode: str
    scale: int = PLAIN


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
            f"not one of {', '.join(IMAGE_FORMATS)}, or damaged, or a kind that Pillow "
            "does not read"
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


def read_picture_header(file: BinaryIO) -> FileHeader:
    """Read what a file says of its image, without the pixels.

    Raises:
        UnusableImage: nothing that `decode_picture` would decode; a file that is
            damaged further on may pass.
    """
    with explained(), _open_sound(file) as image:
        channels = 1 if _is_gray(image) else 3
        scale = _find_scale(image)
        return FileHeader(*image.size, channels, image.mode, scale)


def decode_picture(content: bytes, window: Window) -> Image.Image:
    """Decode a picture to an upright image of mode L or RGB.

    Raises:
        UnusableImage: damaged bytes, no image or several, or more pixels than
            `MOST_PIXELS`.
        RangeNeeded: the window is pending, and the image has more than 8 bits.
    """
    with explained():
        image, values = _load_sound(content)
        turn = TURNS.get(_read_orientation(image))
        image = _reduce(image, values, window)
        return image if turn is None else image.transpose(turn)


def read_picture_gray(content: bytes) -> Gray | None:
    """Return the values of a picture of more than 8 bits; None of another.

    Raises:
        UnusableImage: as `decode_picture`.
    """
    with explained():
        return _gray_values(*_load_sound(content))


def _open_sound(file: BinaryIO) -> Image.Image:
    """Opens an image of any mode, if need be without its metadata."""
    try:
        return _open(file)
    except UnusableImage:
        raise
    except Exception:
        file.seek(0)
        return _open(io.BytesIO(_without_metadata(file.read())))


def _load_sound(content: bytes) -> tuple[Image.Image, np.ndarray | None]:
    """Decode as `_load` does, if need be without an image's metadata."""
    try:
        return _load(content)
    except UnusableImage:
        raise
    except Exception:
        reduced = _without_metadata(content)
        if reduced == content:
            raise
        return _load(reduced)


def _load(content: bytes) -> tuple[Image.Image, np.ndarray | None]:
    """Decode an image of any mode, and the values that its mode has no bits for.

    Returns:
        The image; and uint16 (h, w) or (h, w, 3), without transparency, if the file
        has 16 bits per color and Pillow decodes 8.
    """
    image = _open(io.BytesIO(content))
    raw, values = _deep_raw_mode(image), None
    if raw == "LA;16B":
        # Four bytes a pixel, as RGBA has them.
        pairs = _load_as(content, "RGBA").astype(np.uint16)
        values = pairs[..., 0] << 8 | pairs[..., 1]
    image.load()
    if raw and values is None:
        bits = raw[-3:]
        second = _load_as(content, raw.replace(bits, OTHER_ORDER[bits]))[..., :3]
        values = np.asarray(image)[..., :3].astype(np.uint16) << 8 | second
    return image, values


def _load_as(content: bytes, raw: str) -> np.ndarray:
    """Decode an image as if its pixels were stored in another way."""
    image: Any = _open(io.BytesIO(content))
    for i, tile in enumerate(image.tile):
        args = raw if isinstance(tile.args, str) else (raw, *tile.args[1:])
        image.tile[i] = tile._replace(args=args)
    image.load()
    return np.asarray(image)


def _deep_raw_mode(image: Any) -> str:
    """Return how pixels of 16 bits per color are stored, "RGB;16B"; else ""."""
    tiles = getattr(image, "tile", None)
    if image.mode not in ("RGB", "RGBA") or not tiles or not tiles[0].args:
        return ""
    args = tiles[0].args
    raw = str(args if isinstance(args, str) else args[0])
    known = raw == "LA;16B" or raw.startswith(("RGB;16", "RGBA;16", "RGBX;16"))
    return raw if known else ""


def _open(file: BinaryIO) -> Image.Image:
    """Opens an image, and refuses before pixels are decoded what cannot be used."""
    image = Image.open(file, formats=IMAGE_FORMATS)
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


def _read_orientation(image: Image.Image) -> int:
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


def _is_gray(image: Image.Image) -> bool:
    if raw := _deep_raw_mode(image):
        return raw.startswith("LA")
    return image.mode in ("L", "1", "LA", "La") or _find_scale(image) != PLAIN


def _find_scale(image: Image.Image) -> int:
    """Return how the values become levels, see `FileHeader`; before pixels are decoded,
    of 16 bits per color, too.
    """
    if _deep_raw_mode(image):
        return STORED_SCALE
    # Pillow scales deep PGM files to 16 bits, and holds these in 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return STORED_SCALE
    return NO_SCALE if image.mode in ("I", "F") else PLAIN


def _gray_values(image: Image.Image, values: np.ndarray | None) -> Gray | None:
    """Return the values of an image of more than 8 bits.

    A TIFF may hold 12 bits in 16, and may count from white to black; Pillow gives
    those numbers as they are.
    """
    if values is not None:
        return Gray(values, (0, 2.0**16 - 1))
    scale = _find_scale(image)
    if scale == PLAIN:
        return None
    tags = getattr(image, "tag_v2", {})
    values, full = np.asarray(image), None
    padding = np.isnan(values) if values.dtype.kind == "f" else None
    if scale == STORED_SCALE:
        full = 0, 2.0 ** (12 if tags.get(BITS_PER_SAMPLE) == (12,) else 16) - 1
    return Gray(values, full, tags.get(PHOTOMETRIC) == 0, padding)


def _reduce(
    image: Image.Image, values: np.ndarray | None, window: Window
) -> Image.Image:
    """Return an image of mode L or RGB."""
    if values is None and image.mode in ("L", "RGB"):
        return image
    if gray := _gray_values(image, values):
        return Image.fromarray(_show(gray, window))
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in ("P", "PA"):
        _mend_palette(image)
        # Straight to RGB, Pillow warns of transparent palettes.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _show(gray: Gray, window: Window) -> np.ndarray:
    if gray.full is None and not window.has_range:
        raise UnusableImage(UNKNOWN_RANGE)
    if gray.full is None or window.limits is not None:
        return window.show(gray)
    # The upper 8 bits, as torchvision's `to_dtype`.
    shift = int(gray.full[1] + 1).bit_length() - 9
    levels = (gray.values >> shift).astype(np.uint8)
    return 255 - levels if gray.inverted else levels


def _mend_palette(image: Image.Image) -> None:
    """Reads a palette of a TIFF that has 8 bits where the format has 16.

    As libtiff does it: Pillow would make all of them black.
    """
    entries = getattr(image, "tag_v2", {}).get(COLOR_MAP)
    if entries and 0 < max(entries) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(entries))
        image.putpalette(image.palette.getdata()[1], "RGB;L")
