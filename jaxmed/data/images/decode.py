"""Decoding of image files, pictures and DICOM, which their content tells apart."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from jaxmed.data.dicom.decode_dicom import (
    HEAD,
    decode_dicom,
    is_dicom,
    read_dicom_gray,
    read_dicom_header,
)
from jaxmed.data.images.picture import (
    FileHeader,
    UnusableImage,
    decode_picture,
    read_content,
    read_picture_gray,
    read_picture_header,
)
from jaxmed.data.images.resizing import SQUASH, Resizing, make_square
from jaxmed.data.images.window import STORED_BITS, Gray, Window


def decode(
    file: Path | bytes,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decode one file.

    The orientation in EXIF is applied. More than 8 bits become 8 as the window says,
    never by an image's own extremes, so that brightness stays comparable between
    images. Transparency is dropped, as torchvision's loader does; palettes, CMYK and
    the like become RGB. DICOM is shown as `jaxmed.data.dicom.decode_dicom` describes.

    Args:
        file: its path, or what it holds; the content decides the format, not the name.
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
        RangeNeeded: the window is pending, and the image needs its limits.

    Examples:
        >>> Image.new("RGB", (640, 480), "gray").save("scan.png")
        >>> decode(Path("scan.png"), image_size=224).shape
        (224, 224, 1)
    """
    image = _decode(file, window)
    if image_size is not None and max(image.size) > resizing.stored_side(image_size):
        image = make_square(image, image_size, resizing)
    return _join_equal_channels(np.asarray(image))


def decode_square(
    file: Path | bytes,
    image_size: int,
    resizing: Resizing,
    channels: int,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decode to a shape that is known before: smaller images are enlarged.

    Args:
        file, image_size, resizing, window: as for `decode`.
        channels: 3, or 1 if the file's `FileHeader` has 1.

    Returns:
        uint8 (side, side, channels), by `resizing.stored_side`.

    Raises:
        UnusableImage: as `decode`; or there are colors where there were none.
    """
    image = _decode(file, window)
    side = resizing.stored_side(image_size)
    if image.size != (side, side):
        image = make_square(image, image_size, resizing)
    if channels == 3:
        return np.asarray(image.convert("RGB"))
    if image.mode != "L":
        raise UnusableImage("it has colors, and had none when the data set was loaded")
    return np.asarray(image)[..., None]


def read_gray(path: Path, window: Window) -> Gray | None:
    """Read the gray values that a window's limits are for; None if there are none.

    Raises:
        UnusableImage: as `decode`.
    """
    content = read_content(path)
    if is_dicom(content[:HEAD], path.name):
        return read_dicom_gray(content, window)
    return read_picture_gray(content)


def read_header(file: BinaryIO, name: str) -> FileHeader:
    """Read what an open file says of its image, without the pixels.

    Args:
        file: at its start.
        name: of the file.

    Raises:
        UnusableImage: nothing that `decode` would decode; a file that is damaged
            further on may pass.
    """
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise UnusableImage("the file is empty")
    return (read_dicom_header if is_dicom(head, name) else read_picture_header)(file)


def fit_square(pixels: np.ndarray, image_size: int, resizing: Resizing) -> np.ndarray:
    """Make an image a square as `decode` does: uint8 (h, w, c) to (side, side, c)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    square = make_square(image, image_size, resizing)
    return _join_equal_channels(np.asarray(square))


def _decode(file: Path | bytes, window: Window) -> Image.Image:
    """Return an upright image of mode L or RGB."""
    name = file.name if isinstance(file, Path) else ""
    content = read_content(file) if isinstance(file, Path) else file
    if is_dicom(content[:HEAD], name):
        return Image.fromarray(decode_dicom(content, window))
    return decode_picture(content, window)


def _join_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Return (h, w, 1) of (h, w), and of (h, w, 3) if its channels are equal."""
    if pixels.ndim == 2:
        return pixels[..., None]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    if (red == green).all() and (red == blue).all():
        # A copy, so that the two other channels can be forgotten.
        return red[..., None].copy()
    return pixels
