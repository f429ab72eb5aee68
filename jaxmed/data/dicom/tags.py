"""Tags of a DICOM file that say how its pixels are shown, wherever they stand."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxmed.data.images.picture import UnusableImage

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
        places: the functional groups, then the file itself.
    """

    places: "tuple[Header, ...]"

    @classmethod
    def of(cls, header: "Header") -> "Tags":
        """Finds the places of a file of one frame."""
        places = [
            macro[0]
            for groups in GROUPS
            if header.get(groups)
            for name in MACROS
            if (macro := header[groups].value[0].get(name))
        ]
        return cls((*places, header))

    @property
    def has_window(self) -> bool:
        """Whether both numbers of a window are there."""
        names = ("WindowCenter", "WindowWidth")
        return None not in [self.number(name, None) for name in names]

    def find(self, name: str) -> Any:
        """Returns the first value that is not empty, or None."""
        for place in self.places:
            if name in place and (value := place.get(name)) not in (None, "", b""):
                return value
        return None

    def number(self, name: str, default: Any) -> Any:
        """Returns a number, the first of several; a comma is a decimal point too.

        Raises:
            UnusableImage: it is none.
        """
        for place in self.places:
            if name in place and (number := _read_number(place, name)) is not None:
                return number
        return default


def _read_number(place: "Header", name: str) -> float | None:
    """Returns a tag's number, or None if it is empty."""
    from pydicom.datadict import tag_for_keyword

    # As it is written: pydicom refuses a number with a comma.
    raw = place.get_item(tag_for_keyword(name)).value  # pyright: ignore
    try:
        if not isinstance(raw, bytes) or not _is_text(name):
            value = place.get(name)
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
