"""Decoding of DICOM files to uint8 arrays, as a viewer shows them.

Gray values are rescaled (PS3.3 C.11.1). With the window "auto", the file's first VOI
lookup table is applied, else its first window (C.11.2); both may be of the image or, in
an enhanced file, of its one frame. What has neither, and all files with another window,
are shown as that says. MONOCHROME1, in which high is dark, is inverted; padding
(PixelPaddingValue) becomes black.

Of a file's tags only those are read that say how its pixels are shown; nothing that
tells of the patient is kept, written or quoted. Ids are the paths, as everywhere: what
they tell is what whoever named the files put there.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from jaxmed.data.dicom.values import (
    MONOCHROME,
    PLUGINS,
    apply_own_window,
    apply_palette,
    find_pixels,
    find_scale,
    gray_values,
    read_pixels,
)
from jaxmed.data.images.picture import (
    MOST_PIXELS,
    NO_SCALE,
    OWN_SCALE,
    PLAIN,
    STORED_SCALE,
    UNKNOWN_RANGE,
    FileHeader,
    UnusableImage,
    too_large,
)
from jaxmed.data.images.window import AUTO, Gray, RangeNeeded, Window

if TYPE_CHECKING:
    from pydicom import Dataset as Header

ENDINGS = (".dcm", ".dicom")
# PS3.10, 7.1: what stands behind the first 128 bytes of a file.
PREAMBLE, MAGIC = 128, b"DICM"
# How much of a file's beginning tells whether it is DICOM.
HEAD = PREAMBLE + len(MAGIC)
# Without these there is no image; PS3.3 C.7.6.3 requires more, which follow from them.
REQUIRED = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
# PS3.5, 7.1.1: the length of what is made of items, as compressed pixels are.
UNDEFINED = 0xFFFFFFFF
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8")


def is_dicom(head: bytes, name: str) -> bool:
    """Tells whether a file is DICOM, by its first `HEAD` bytes, else by its ending.

    Files without a preamble are known by their first tag, of group 2 or 8.
    """
    return (
        head[PREAMBLE:] == MAGIC
        or _begins_with_a_tag(head)
        or (name.lower().endswith(ENDINGS) and not head.startswith(SIGNATURES))
    )


def decode_dicom(content: bytes, window: Window) -> np.ndarray:
    """Decode a file's content to uint8 (h, w), or (h, w, 3), RGB.

    Raises:
        UnusableImage: the file is damaged, holds no image or several, is compressed in
            a way that needs another package, or of unknown colors or range.
        RangeNeeded: the window is pending, and the file does not say how it is shown.
    """
    with _explained():
        return _show(_read(io.BytesIO(content)), window)


def read_dicom_gray(content: bytes, window: Window) -> Gray | None:
    """Return the gray values of a file that the window's limits are for, else None.

    Raises:
        UnusableImage: as `decode_dicom`.
    """
    with _explained():
        header = _read(io.BytesIO(content))
        scale = find_scale(header)
        if scale == PLAIN or (scale == OWN_SCALE and window.setting == AUTO):
            return None
        return gray_values(header)


def read_dicom_header(file: BinaryIO) -> FileHeader:
    """Read the header, as `jaxmed.data.images.decode.read_header`."""
    with _explained():
        # The pixels stay where they are.
        header = _read(file, defer_size=1024)
        scale = find_scale(header)
        gray = header.PhotometricInterpretation in MONOCHROME
        columns, rows = int(header.Columns), int(header.Rows)
        mode = f"{header.PhotometricInterpretation}, {header.BitsStored} bits"
        return FileHeader(columns, rows, 1 if gray else 3, mode, scale)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what pydicom raises into `UnusableImage`."""
    try:
        from pydicom.errors import InvalidDicomError
    except ModuleNotFoundError as error:
        raise UnusableImage(
            "DICOM, for which the package pydicom is needed: pip install "
            "'jaxmed[dicom]'"
        ) from error
    try:
        yield
    except (UnusableImage, RangeNeeded):
        raise
    except InvalidDicomError as error:
        raise UnusableImage("not DICOM, or damaged") from error
    except OSError as error:
        raise UnusableImage(str(error.strerror or "cut off")) from error
    except Exception as error:
        # Without pydicom's words, which may quote a tag.
        raise UnusableImage("damaged or cut off") from error


def _begins_with_a_tag(head: bytes) -> bool:
    """Tells whether a file begins as a data set does: a tag, and its VR or length."""
    if len(head) < 8 or head[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < PREAMBLE


def _read(file: BinaryIO, **options: Any) -> "Header":
    """Reads a file's tags, completed, and refuses what cannot be used."""
    from pydicom import dcmread

    start = file.tell()
    bare = file.read(HEAD)[PREAMBLE:] != MAGIC
    file.seek(start)
    # Without a preamble anything can be read, and what comes out may be nothing.
    header = dcmread(file, force=bare, **options)
    if bare and not any(name in header for name in ("SOPClassUID", *REQUIRED)):
        raise UnusableImage("not DICOM, or damaged")
    if find_pixels(header) is None:
        raise UnusableImage("it holds no image")
    _complete(header)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableImage(
            f"{frames} frames, and an image is one; save the frame to use as a file of "
            "its own"
        )
    if header.Rows * header.Columns > MOST_PIXELS:
        raise too_large()
    _check_syntax(header)
    return header


def _complete(header: "Header") -> None:
    """Sets what is lacking, or empty, and follows from the other tags."""
    for name in REQUIRED:
        if header.get(name) in (None, ""):
            raise UnusableImage(f"it lacks the tag {name}")
    color = header.PhotometricInterpretation not in (*MONOCHROME, "PALETTE COLOR")
    bits = header.get("BitsStored") or header.BitsAllocated
    for name, value in {
        "SamplesPerPixel": 3 if color else 1,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PlanarConfiguration": 0,
    }.items():
        if header.get(name) is None:
            setattr(header, name, value)
    if "NumberOfFrames" in header and not header.NumberOfFrames:
        header.NumberOfFrames = 1


def _check_syntax(header: "Header") -> None:
    """Refuses compressed pixels that cannot be decoded here."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    if not header.file_meta.get("TransferSyntaxUID"):
        # pydicom has found out how the tags are written.
        implicit, little = header.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        header.file_meta.TransferSyntaxUID = plain if little else ExplicitVRBigEndian
        # Not read yet, and so as it is written.
        pixels: Any = header.get_item(find_pixels(header) or "")
        if pixels.length == UNDEFINED:
            raise UnusableImage(
                "its pixels are compressed, and the tag TransferSyntaxUID, which says "
                "how, is missing"
            )
    syntax = header.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UnusableImage(
            f"compressed as {syntax.name}, which pydicom reads with further packages: "
            f"{PLUGINS}"
        )


def _show(header: "Header", window: Window) -> np.ndarray:
    """Returns uint8 (h, w) or (h, w, 3)."""
    colors = header.PhotometricInterpretation
    if colors in MONOCHROME:
        scale, gray = find_scale(header), gray_values(header)
        if window.setting != AUTO or scale in (STORED_SCALE, NO_SCALE):
            if gray.full is None and not window.has_range:
                raise UnusableImage(UNKNOWN_RANGE)
            return window.show(gray)
        shares = apply_own_window(gray.values, header)
        if shares is not None:
            return gray.paint(np.nan_to_num(shares))
        assert gray.full, "stored bits have a range"
        return gray.scale(gray.full)
    pixels = read_pixels(header)
    if colors == "PALETTE COLOR":
        return apply_palette(pixels, header)
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels
    if pixels.dtype == np.uint16 and colors == "RGB":
        # The upper 8 of the bits stored.
        return (pixels >> max(0, header.BitsStored - 8)).astype(np.uint8)
    raise UnusableImage(f"{header.BitsAllocated}-bit pixels of the kind {colors}")
