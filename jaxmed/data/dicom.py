"""`dicom:PATH`: DICOM files (.dcm) in the layout of `folder:PATH`.

Of a file's tags only those are read that say how its pixels are shown; nothing that
tells of the patient is kept, written or quoted. Ids are the paths, as everywhere: what
they tell is what whoever named the files put there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from jaxmed.data.dataset import Dataset, Unsplit
from jaxmed.data.decode import (
    MOST_PIXELS,
    FileHeader,
    UnusableImage,
    check_grey,
    fit_square,
    join_equal_channels,
    too_large,
)
from jaxmed.data.files import READING, Reading
from jaxmed.data.folder import read_folder
from jaxmed.data.kinds import FileKind
from jaxmed.data.resizing import SQUASH, Resizing
from jaxmed.data.split import Splitting
from jaxmed.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset as Header

ENDINGS = (".dcm", ".dicom")
PLUGINS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def load_dicom(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    reading: Reading = READING,
    splitting: Splitting | None = None,
) -> Dataset | Unsplit:
    """Loads `dicom:PATH`, as `load_folder` loads `folder:PATH`.

    Args:
        rest: the path of the folder.
        cache, image_size, reading, splitting: as for `load_folder`.

    Raises:
        InputError: as `load_folder`; or pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "For DICOM files the package pydicom is needed, which is not installed: "
            "pip install 'jaxmed[dicom]'."
        ) from error
    return read_folder(
        rest, image_size, FILES, cache=cache, reading=reading, splitting=splitting
    )


def decode_dicom(
    path: Path, image_size: int | None = None, resizing: Resizing = SQUASH
) -> np.ndarray:
    """Decodes one file as a viewer shows it.

    Grey values are rescaled (PS3.3 C.11.1) and then windowed by the first window of
    the file, else by its first VOI lookup table (C.11.2); without either, the range
    of the stored bits becomes 0 to 255, never that of an image's own extremes.
    MONOCHROME1, in which high is black, is inverted.

    Args:
        path: the file.
        image_size, resizing: as in `jaxmed.data.decode.decode`.

    Returns:
        uint8 (h, w, 1), or (h, w, 3), RGB, as `decode` does.

    Raises:
        UnusableImage: the file cannot be read, is damaged, holds no image or several,
            is compressed in a way that needs another package, or of unknown colours.
    """
    from pydicom import dcmread

    with _explained():
        header = dcmread(path)
        _check_header(header)
        pixels = join_equal_channels(_read_pixels(header))
    if image_size is None or max(pixels.shape[:2]) <= resizing.stored_side(image_size):
        return pixels
    return fit_square(pixels, image_size, resizing)


def decode_dicom_square(
    path: Path, image_size: int, resizing: Resizing, channels: int
) -> np.ndarray:
    """Decodes one file to a given shape, as `jaxmed.data.decode.decode_square`."""
    pixels = decode_dicom(path, image_size, resizing)
    side = resizing.stored_side(image_size)
    if pixels.shape[:2] != (side, side):
        pixels = fit_square(pixels, image_size, resizing)
    if channels == 1:
        return check_grey(pixels)
    return np.broadcast_to(pixels, (side, side, 3))


def read_dicom_header(file: BinaryIO) -> FileHeader:
    """Reads what a file says of its image, as `jaxmed.data.decode.read_header`."""
    from pydicom import dcmread

    with _explained():
        # The pixels stay where they are.
        header = dcmread(file, defer_size=1024)
        _check_header(header)
        grey = header.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        return FileHeader(int(header.Columns), int(header.Rows), 1 if grey else 3)


FILES = FileKind(
    scheme="dicom",
    endings=ENDINGS,
    header=read_dicom_header,
    decoder=decode_dicom,
    square=decode_dicom_square,
)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what pydicom raises into `UnusableImage`."""
    from pydicom.errors import InvalidDicomError

    try:
        yield
    except UnusableImage:
        raise
    except InvalidDicomError as error:
        raise UnusableImage("not DICOM, or damaged") from error
    except OSError as error:
        raise UnusableImage(str(error.strerror or "cut off")) from error
    except Exception as error:
        # Without pydicom's words, which may quote a tag.
        raise UnusableImage("damaged or cut off") from error


def _check_header(header: "Header") -> None:
    """Refuses, before pixels are decoded, what cannot be used."""
    from pydicom.pixels.decoders.base import get_decoder

    if "PixelData" not in header:
        raise UnusableImage("it holds no image, or one of floating-point pixels")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableImage(f"{frames} frames, and an image is one")
    if header.Rows * header.Columns > MOST_PIXELS:
        raise too_large()
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


def _read_pixels(header: "Header") -> np.ndarray:
    """Returns uint8 (h, w) or (h, w, 3)."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    colours = header.PhotometricInterpretation
    # YBR becomes RGB here.
    pixels = pixel_array(header)
    if colours in ("MONOCHROME1", "MONOCHROME2"):
        shares = np.clip(_show(pixels, header), 0, 1)
        shown = np.rint(255 * shares).astype(np.uint8)
        return 255 - shown if colours == "MONOCHROME1" else shown
    if colours == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        return (pixels >> (8 * pixels.itemsize - 8)).astype(np.uint8)
    if pixels.ndim == 3 and header.BitsAllocated == 8:
        return pixels
    raise UnusableImage(f"{header.BitsAllocated}-bit pixels of the kind {colours}")


def _show(pixels: np.ndarray, header: "Header") -> np.ndarray:
    """Returns brightness, from 0 to 1 but for what a window cuts off; float (h, w)."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    values = apply_modality_lut(pixels, header)
    if header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        center, width = _first(header.WindowCenter), _first(header.WindowWidth)
        function = header.get("VOILUTFunction") or "LINEAR"
        return _window(values, center, width, function)
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        whole = np.rint(values).astype(np.int64)
        return apply_voi(whole, header, index=0) / (2**bits - 1)
    if header.get("ModalityLUTSequence"):
        bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
        return values / (2**bits - 1)
    signed = header.PixelRepresentation == 1
    low = -(2 ** (header.BitsStored - 1)) if signed else 0
    # A rescaling leaves shares of the range alone, unless it turns it round.
    shares = (pixels - float(low)) / (2**header.BitsStored - 1)
    return shares if float(header.get("RescaleSlope") or 1) > 0 else 1 - shares


def _window(
    values: np.ndarray, center: float, width: float, function: str
) -> np.ndarray:
    """Returns PS3.3 C.11.2.1.2 and C.11.2.1.3, from 0 to 1."""
    narrowest = {"LINEAR": 1, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}
    if function not in narrowest or width < narrowest[function]:
        raise UnusableImage("its window has no width, or an unknown form")
    if function == "SIGMOID":
        from scipy.special import expit

        return expit(4 * (values - center) / width)
    if function == "LINEAR":
        # The values are the middles of steps of one.
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(float)
    return (values - center) / width + 0.5


def _first(value: Any) -> float:
    """Returns a tag's value, or the first of several."""
    from pydicom.multival import MultiValue

    return float(value[0] if isinstance(value, MultiValue) else value)
