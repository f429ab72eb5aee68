"""Pixel values of a DICOM file, and the gray levels or colors that its tags give them.

Tags are looked for wherever they can stand (`Tags`)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.data.images.picture import (
    NO_SCALE,
    OWN_SCALE,
    PLAIN,
    STORED_SCALE,
    UnusableImage,
)
from jaxmed.data.images.window import Gray

if TYPE_CHECKING:
    from pydicom import Dataset as Header

# In the functional groups of an enhanced file (PS3.3 C.7.6.16), of which those of the
# one frame go before those that its frames share.
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


@dataclass(frozen=True)
class Tags:
    """Data sets to look for a tag in, in this order.

    Attributes:
        datasets: the functional groups, then the file itself.
    """

    datasets: "tuple[Header, ...]"

    @classmethod
    def of(cls, header: "Header") -> "Tags":
        """Finds the places of a file of one frame."""
        datasets = [
            macro[0]
            for groups in GROUPS
            if header.get(groups)
            for name in MACROS
            if (macro := header[groups].value[0].get(name))
        ]
        return cls((*datasets, header))

    @property
    def has_window(self) -> bool:
        """Whether both numbers of a window are there."""
        names = ("WindowCenter", "WindowWidth")
        return None not in [self.number(name, None) for name in names]

    def find(self, name: str) -> Any:
        """Returns the first value that is not empty, or None."""
        for dataset in self.datasets:
            if name in dataset and (value := dataset.get(name)) not in (None, "", b""):
                return value
        return None

    def number(self, name: str, default: Any) -> Any:
        """Returns a number, the first of several; a comma is a decimal point too.

        Raises:
            UnusableImage: it is none.
        """
        for dataset in self.datasets:
            if name in dataset and (number := _read_number(dataset, name)) is not None:
                return number
        return default


def _read_number(dataset: "Header", name: str) -> float | None:
    """Returns a tag's number, or None if it is empty."""
    from pydicom.datadict import tag_for_keyword

    # As it is written: pydicom refuses a number with a comma.
    raw = dataset.get_item(tag_for_keyword(name)).value  # pyright: ignore
    try:
        if not isinstance(raw, bytes) or not _is_text(name):
            value = dataset.get(name)
            values = [value] if isinstance(value, int | float | None) else list(value)
            return None if not values or values[0] is None else float(values[0])
        text = raw.decode("ascii").split("\\")[0].strip(" \0").replace(",", ".")
        return float(text) if text else None
    except (ValueError, TypeError) as error:
        raise UnusableImage(f"its tag {name} is no number") from error


def _is_text(name: str) -> bool:
    """Tells whether numbers of a tag are written as text (DS and IS)."""
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(name) in ("DS", "IS")  # pyright: ignore[reportArgumentType]


PLUGINS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
# Of which a file has one; the others hold floating-point numbers.
INTEGERS, FLOATS = "PixelData", ("FloatPixelData", "DoubleFloatPixelData")


def find_pixels(header: "Header") -> str | None:
    """Return the name of the tag that holds the pixels, or None."""
    names = (INTEGERS, *FLOATS)
    return next((name for name in names if name in header), None)


def read_pixels(header: "Header") -> np.ndarray:
    """Return the stored values, (h, w) or (h, w, 3); YBR becomes RGB."""
    from pydicom.pixels.utils import get_expected_length, pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        length = len(header[find_pixels(header) or INTEGERS].value)
        needed = get_expected_length(header)
        if length < needed:
            raise UnusableImage(
                f"damaged or cut off: {length:,} bytes of pixels, and {needed:,} are "
                "needed"
            )
    try:
        return pixel_array(header)
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise UnusableImage(
            f"its pixels, compressed as {syntax.name}, cannot be decoded: damaged or "
            f"cut off, or in need of further packages ({PLUGINS})"
        ) from error


def apply_palette(pixels: np.ndarray, header: "Header") -> np.ndarray:
    """Returns the colors of a palette's entries, uint8 (h, w, 3)."""
    from pydicom.pixels.processing import apply_color_lut

    colors = apply_color_lut(pixels, header)
    # Some palettes have 16 bits by their descriptor, and 8 in their entries.
    if colors.dtype == np.uint8 or colors.max() < 256:
        return colors.astype(np.uint8)
    return (colors >> 8).astype(np.uint8)


def find_scale(header: "Header") -> int:
    """Returns how the gray values become levels, see `FileHeader`."""
    if header.PhotometricInterpretation not in MONOCHROME:
        return PLAIN
    tags = Tags.of(header)
    known = tags.has_window or tags.find("VOILUTSequence")
    if find_pixels(header) in FLOATS:
        return OWN_SCALE if known else NO_SCALE
    if known or tags.find("ModalityLUTSequence") or header.BitsStored <= 8:
        return OWN_SCALE
    return STORED_SCALE


def gray_values(header: "Header") -> Gray:
    """Returns the rescaled values, and what the stored bits could hold of them."""
    tags, stored = Tags.of(header), read_pixels(header)
    signed = header.PixelRepresentation == 1
    low = -(2.0 ** (header.BitsStored - 1)) if signed else 0.0
    high = low + 2.0**header.BitsStored - 1
    if table := tags.find("ModalityLUTSequence"):
        table = LookupTable.read(table[0], header)
        values, full = table(stored), (0.0, table.highest)
    else:
        slope = tags.number("RescaleSlope", 1.0)
        intercept = tags.number("RescaleIntercept", 0.0)
        values = stored.astype(np.float64) * slope + intercept
        ends = sorted((low * slope + intercept, high * slope + intercept))
        full = ends[0], ends[1]
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    padding = _find_padding(stored, tags)
    if stored.dtype.kind == "f":
        full, padding = None, np.isnan(stored)
    return Gray(values, full, inverted, padding)


def _find_padding(stored: np.ndarray, tags: Tags) -> np.ndarray | None:
    """Returns which pixels lie outside the picture (PS3.3 C.7.5.1.1.2), bool (h, w)."""
    first = tags.number("PixelPaddingValue", None)
    if first is None:
        return None
    last = tags.number("PixelPaddingRangeLimit", first)
    return (stored >= min(first, last)) & (stored <= max(first, last))


def apply_own_window(values: np.ndarray, header: "Header") -> np.ndarray | None:
    """Returns shares of the gray scale as the file says, or None if it does not."""
    tags = Tags.of(header)
    if tables := tags.find("VOILUTSequence"):
        table = LookupTable.read(tables[0], header)
        return table(np.rint(values).astype(np.int64)) / table.highest
    if not tags.has_window:
        return None
    center = tags.number("WindowCenter", 0.0)
    width = tags.number("WindowWidth", 0.0)
    function = str(tags.find("VOILUTFunction") or "LINEAR").strip().upper()
    narrowest = {"LINEAR": 1, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}
    if function not in narrowest or width < narrowest[function]:
        raise UnusableImage(
            "its window has no width, or an unknown form (tags WindowWidth and "
            "VOILUTFunction); data.window can replace it"
        )
    if function == "SIGMOID":
        from scipy.special import expit

        return expit(4 * (values - center) / width)
    if function == "LINEAR":
        # The values are the middles of steps of one.
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(float)
    return (values - center) / width + 0.5


@dataclass(frozen=True)
class LookupTable:
    """A modality or VOI lookup table (PS3.3 C.11.1.1.1, C.11.2.1.1).

    Attributes:
        entries: numbers (n,).
        first: the value that the first entry is for; lower ones get it too.
        highest: what an entry can be at most.
    """

    entries: np.ndarray
    first: int
    highest: float

    @classmethod
    def read(cls, item: "Header", header: "Header") -> "LookupTable":
        """Reads an item of a sequence of tables."""
        for name in ("LUTDescriptor", "LUTData"):
            if name not in item:
                raise UnusableImage(f"a lookup table of it lacks the tag {name}")
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        entries = item.LUTData
        if isinstance(entries, bytes):
            _, little = header.original_encoding
            entries = np.frombuffer(entries, "<u2" if little else ">u2")
        table = np.asarray(entries, np.int64)[: count or 2**16]
        if first > 2**15 and header.PixelRepresentation == 1:
            first -= 2**16
        return cls(table, first, 2.0**bits - 1)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Looks whole numbers up, of any shape."""
        indices = np.clip(values - np.int64(self.first), 0, len(self.entries) - 1)
        return self.entries[indices]
