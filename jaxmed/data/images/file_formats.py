"""An image file of any kind, told by its content: one way in for every source."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from jaxmed.data.dicom import decode_dicom as dicom
from jaxmed.data.images import decode
from jaxmed.data.images import picture as opening
from jaxmed.data.images.decode import FileHeader
from jaxmed.data.images.picture import UnusableImage, read_content
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import STORED_BITS, Gray, Window

# Files with other endings, or none, are images if they begin as one.
ENDINGS = (*opening.ENDINGS, *dicom.ENDINGS)


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What a source of files looks for.

    Attributes:
        scheme: of the source, such as "folder".
        endings: of names, in lower case, by which files are taken without a look.
        refuse: says why a file is none; "" if it is one.
    """

    scheme: str
    endings: tuple[str, ...]
    refuse: Callable[[Path], str]


def decode_file(
    path: Path,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decodes a picture or a DICOM file, as `jaxmed.data.images.decode.decode` does.

    Raises:
        UnusableImage, RangeNeeded: as there.
    """
    content = read_content(path)
    if _is_dicom(content, path):
        return dicom.decode_dicom_content(content, image_size, resizing, window)
    return decode.decode_content(content, image_size, resizing, window)


def decode_file_square(
    path: Path,
    image_size: int,
    resizing: Resizing,
    channels: int,
    window: Window = STORED_BITS,
) -> np.ndarray:
    """Decodes a file to a given shape, as `decode.decode_content_square` does.

    Raises:
        UnusableImage, RangeNeeded: as there.
    """
    content = read_content(path)
    kind = dicom.decode_dicom_square
    if not _is_dicom(content, path):
        kind = decode.decode_content_square
    return kind(content, image_size, resizing, channels, window)


def read_file_header(file: BinaryIO, path: Path) -> FileHeader:
    """Reads what an open file says of its image, without the pixels.

    Raises:
        UnusableImage: as `jaxmed.data.images.decode.read_header`.
    """
    head = file.read(dicom.HEAD)
    file.seek(0)
    if not head:
        raise UnusableImage("the file is empty")
    known = _is_dicom(head, path)
    return dicom.read_dicom_header(file) if known else decode.read_header(file)


def read_gray(path: Path, window: Window) -> Gray | None:
    """Reads the gray values that a window's limits are for; None if there are none.

    Raises:
        UnusableImage: as `decode_file`.
    """
    content = read_content(path)
    if _is_dicom(content, path):
        return dicom.decode_dicom_gray(content, window)
    return decode.decode_gray(content)


def why_no_image(path: Path) -> str:
    """Returns why a file is not even looked at as an image; "" if it is.

    One that is named like an image is one, and if it is damaged, that is said of it.
    """
    name, ending = path.name, path.suffix.lower()
    if name.upper() == "DICOMDIR":
        return "a list of DICOM files, and no image"
    if ending in ENDINGS:
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(dicom.HEAD)
            file.seek(0)
            if dicom.is_dicom(head, name) or _is_picture(file):
                return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "no image by its name or content"


def why_no_dicom(path: Path) -> str:
    """Returns why a file is not DICOM, as `why_no_image` of images; "" if it is."""
    if reason := why_no_image(path):
        return reason
    try:
        with path.open("rb") as file:
            known = dicom.is_dicom(file.read(dicom.HEAD), path.name)
    except OSError:
        # Whoever decodes it says why it cannot be read.
        known = path.name.lower().endswith(dicom.ENDINGS)
    return "" if known else "no DICOM file"


def _is_dicom(content: bytes, path: Path) -> bool:
    return dicom.is_dicom(content[: dicom.HEAD], os.path.basename(path))


def _is_picture(file: BinaryIO) -> bool:
    try:
        with Image.open(file, formats=opening.FORMATS):
            return True
    except Exception:
        # Pillow raises whatever its parsers stumble over.
        return False


IMAGES = FileKind(scheme="folder", endings=ENDINGS, refuse=why_no_image)
DICOM = FileKind(scheme="dicom", endings=dicom.ENDINGS, refuse=why_no_dicom)
