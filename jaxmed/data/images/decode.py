"""One picture file to a uint8 array: whatever of `FORMATS` Pillow reads."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImagePalette

from jaxmed.data.images.picture import (
    UnusableImage,
    explained,
    load_sound,
    open_sound,
    read_content,
    read_orientation,
)
from jaxmed.data.images.resizing import SQUASH, Resizing, make_square
from jaxmed.data.images.window import STORED_BITS, Gray, Window

# Tags of TIFF.
BITS_PER_SAMPLE, PHOTOMETRIC, COLOR_MAP = 258, 262, 320
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


def decode(
    path: Path,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decodes one file.

    The orientation in EXIF is applied. More than 8 bits become 8 as the window says,
    never by an image's own extremes, so that brightness stays comparable between
    images. Transparency is dropped, as torchvision's loader does; palettes, CMYK and
    the like become RGB.

    Args:
        path: the file; its content decides the format, not its ending.
        image_size: side in pixels that the network gets. An image with a side longer
            than what is kept for it becomes a square, as by torchvision's transforms
            of Pillow images. None keeps all as they are.
        resizing: how, and what is kept.
        window: of images of more than 8 bits.

    Returns:
        uint8 (h, w, 1) if all channels are equal, also in a file with colors; else
        (h, w, 3), RGB.

    Raises:
        UnusableImage: the file cannot be read, is damaged, holds no image or several,
            or more pixels than `MOST_PIXELS`.
        RangeNeeded: the window is pending, and the image has more than 8 bits.
    """
    return decode_content(read_content(path), image_size, resizing, window)


def decode_content(
    content: bytes,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decodes what a file holds, as `decode` does."""
    with explained():
        image = _decode(content, window)
        if image_size is not None:
            image = _shrink(image, image_size, resizing)
        return join_equal_channels(np.asarray(image))


def decode_content_square(
    content: bytes,
    image_size: int,
    resizing: Resizing,
    channels: int,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decodes to a shape that is known before: smaller images are enlarged.

    Args:
        content: of the file.
        image_size, resizing, window: as for `decode`.
        channels: 3, or 1 if the file's `FileHeader` has 1.

    Returns:
        uint8 (side, side, channels), by `resizing.stored_side`.

    Raises:
        UnusableImage: as `decode`; or there are colors where there were none.
    """
    with explained():
        image = _decode(content, window)
        side = resizing.stored_side(image_size)
        if image.size != (side, side):
            image = make_square(image, image_size, resizing)
        if channels == 3:
            return np.asarray(image.convert("RGB"))
        return check_gray(np.asarray(image).reshape(side, side, -1))


def decode_gray(content: bytes) -> Gray | None:
    """Returns the gray values of a picture of more than 8 bits; None of another.

    Raises:
        UnusableImage: as `decode`.
    """
    with explained():
        return _gray_values(load_sound(content))


def check_gray(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 (h, w, 1) as it is.

    Raises:
        UnusableImage: there are three channels.
    """
    if pixels.shape[2] != 1:
        raise UnusableImage("it has colors, and had none when the data set was loaded")
    return pixels


def read_header(file: BinaryIO) -> FileHeader:
    """Reads what a file says of its image, without the pixels.

    Raises:
        UnusableImage: nothing that `decode` would decode; a file that is damaged
            further on may pass.
    """
    with explained(), open_sound(file) as image:
        channels = 1 if _is_gray(image) else 3
        scale = _find_scale(image)
        return FileHeader(*image.size, channels, image.mode, scale)


def fit_square(pixels: np.ndarray, image_size: int, resizing: Resizing) -> np.ndarray:
    """Makes an image a square as `decode` does: uint8 (h, w, c) to (side, side, c)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    square = make_square(image, image_size, resizing)
    return join_equal_channels(np.asarray(square))


def join_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Returns (h, w, 1) of (h, w), and of (h, w, 3) if its channels are equal."""
    if pixels.ndim == 2:
        return pixels[..., None]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    if (red == green).all() and (red == blue).all():
        # A copy, so that the two other channels can be forgotten.
        return red[..., None].copy()
    return pixels


def _decode(content: bytes, window: Window) -> Image.Image:
    """Returns an upright image of mode L or RGB."""
    image = load_sound(content)
    turn = TURNS.get(read_orientation(image))
    image = _reduce(image, window)
    return image if turn is None else image.transpose(turn)


def _is_gray(image: Image.Image) -> bool:
    return image.mode in ("L", "1", "LA", "La") or _find_scale(image) != PLAIN


def _find_scale(image: Image.Image) -> int:
    """Returns how the gray values become levels, see `FileHeader`."""
    # Pillow scales deep PGM files to 16 bits, and holds these in 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return STORED_SCALE
    return NO_SCALE if image.mode in ("I", "F") else PLAIN


def _gray_values(image: Image.Image) -> Gray | None:
    """Returns the values of an image of more than 8 bits.

    A TIFF may hold 12 bits in 16, and may count from white to black; Pillow gives
    those numbers as they are.
    """
    scale = _find_scale(image)
    if scale == PLAIN:
        return None
    tags = getattr(image, "tag_v2", {})
    values, full = np.asarray(image), None
    padding = np.isnan(values) if values.dtype.kind == "f" else None
    if scale == STORED_SCALE:
        full = 0, 2.0 ** (12 if tags.get(BITS_PER_SAMPLE) == (12,) else 16) - 1
    return Gray(values, full, tags.get(PHOTOMETRIC) == 0, padding)


def _reduce(image: Image.Image, window: Window) -> Image.Image:
    """Returns an image of mode L or RGB."""
    if image.mode in ("L", "RGB"):
        return image
    if gray := _gray_values(image):
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


def _shrink(image: Image.Image, image_size: int, resizing: Resizing) -> Image.Image:
    if max(image.size) <= resizing.stored_side(image_size):
        return image
    return make_square(image, image_size, resizing)
