"""Windowing: gray values of more than 8 bits to the 256 levels that networks get.

A scan stores 10 to 16 bits and uses a part of them: MR values of 0 to 600 in 16 bits,
or a 12-bit radiograph saved as a 16-bit PNG. Scaling the stored bits to 8 would leave
3 or 16 gray levels of those. A window names the values that become black and white;
it is the same for all images of a data set and for all that are predicted later, never
one of an image's own extremes, so that brightness stays comparable between images.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxmed.errors import InputError

AUTO, FULL, PERCENTILE = "auto", "full", "percentile:"
# Of the pixels of training images, where "auto" needs a range: markers burned into
# the picture and single hot pixels do not decide it.
AUTO_PERCENTILES = (0.1, 99.9)
# Gray levels below which an image is said to have few; smaller images need not have
# that many.
FEW_LEVELS, LEAST_PIXELS = 32, 1024
EXPECTED = (
    'auto, full, "percentile:LOW,HIGH" such as percentile:1,99, or "CENTER,WIDTH" such '
    "as 40,400"
)


class RangeNeeded(Exception):
    """An image needs the range of the data set, which is not known yet."""


class Gray(NamedTuple):
    """An image's gray values, or its colors, which are more than a screen shows.

    Attributes:
        values: (h, w), or (h, w, 3) of colors, numbers.
        full: the lowest and highest value that its stored bits can hold; None where
            that is not known.
        inverted: whether high values are dark.
        padding: bool (h, w), pixels outside the picture; None if there are none.
    """

    values: np.ndarray
    full: tuple[float, float] | None
    inverted: bool = False
    padding: np.ndarray | None = None

    def paint(self, shares: np.ndarray) -> np.ndarray:
        """Turn shares of the gray scale, cut off at 0 and 1, into uint8.

        Padding becomes black, also where high values are dark.
        """
        levels = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
        if self.inverted:
            levels = 255 - levels
        if self.padding is not None:
            levels[self.padding] = 0
        return levels

    def scale(self, limits: tuple[float, float]) -> np.ndarray:
        """Shows values from `limits[0]`, black, to `limits[1]`, white, as uint8."""
        low, high = limits
        values = self.values.astype(np.float64)
        return self.paint(np.nan_to_num((values - low) / (high - low)))


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which gray values become black and white.

    It concerns images of more than 8 bits, and gray DICOM images of any depth;
    pictures of 8 bits are left as they are.

    Attributes:
        setting: "auto" (the window or lookup table that a DICOM file names; for other
            images `limits`), "full" (the range of the stored bits, whatever a file
            names), "percentile:LOW,HIGH" (of the pixels of the training images, for
            all images) or "CENTER,WIDTH" (as DICOM's function LINEAR, for all images).
        limits: the values that become 0 and 255; None for the range of each image's
            stored bits, () as long as they are still to be found.
    """

    setting: str = AUTO
    limits: tuple[float, ...] | None = None

    @property
    def pending(self) -> bool:
        """Whether the limits are still to be found in the training images."""
        return self.limits == ()

    @property
    def percentiles(self) -> tuple[float, float]:
        """Which percentiles of the training images' pixels the limits are."""
        if self.setting == AUTO:
            return AUTO_PERCENTILES
        low, high = _numbers(self.setting.removeprefix(PERCENTILE))
        return low, high

    @property
    def has_range(self) -> bool:
        """Whether also values are shown whose stored range is not known."""
        return self.setting not in (AUTO, FULL)

    def show(self, gray: Gray) -> np.ndarray:
        """Shows gray values as uint8 (h, w).

        Raises:
            RangeNeeded: the limits are not known yet.
        """
        if self.pending:
            raise RangeNeeded
        limits = self.limits or gray.full
        assert limits is not None, "unknown ranges are refused before"
        return gray.scale((limits[0], limits[1]))

    def describe(self) -> str:
        """Says in a phrase what becomes black and white."""
        bits = "the range of the stored bits"
        if self.setting == FULL:
            return bits
        if not self.limits:
            return f"the window that a file names, else {bits}"
        low, high = self.limits
        limits = f"{low:g} to {high:g}"
        if self.setting == AUTO:
            return f"the window that a file names, else {limits}"
        return f"{limits} ({self.setting})"


STORED_BITS = Window()
"""What a file names, else the range of its stored bits."""


def parse_window(setting: str) -> Window:
    """Reads `data.window`.

    Raises:
        InputError: it is not one of the forms that `Window` has.
    """
    if setting == AUTO:
        return Window(limits=())
    if setting == FULL:
        return Window(setting=FULL)
    numbers = _numbers(setting.removeprefix(PERCENTILE))
    if setting.startswith(PERCENTILE):
        if len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] <= 100:
            raise InputError(
                f"data.window is {setting!r}; its percentiles must be two numbers from "
                "0 to 100, the lower one first, as in percentile:1,99."
            )
        return Window(setting=setting, limits=())
    if len(numbers) != 2:
        raise InputError(f"data.window must be {EXPECTED}; got {setting!r}.")
    center, width = numbers
    if width <= 1:
        raise InputError(
            f"data.window is {setting!r}, whose width must be above 1; it is "
            "CENTER,WIDTH, as DICOM's WindowCenter and WindowWidth."
        )
    # PS3.3 C.11.2.1.2.1: the values are the middles of steps of one.
    middle, half = center - 0.5, (width - 1) / 2
    return Window(setting=setting, limits=(middle - half, middle + half))


def read_window(record: dict) -> Window:
    """Rebuilds a window from what `dataclasses.asdict` made of it, also through JSON.

    Raises:
        InputError, KeyError, TypeError: it is not such a record.
    """
    window, limits = parse_window(record["setting"]), record["limits"]
    if limits is None:
        return Window(setting=window.setting)
    low, high = limits
    return Window(setting=window.setting, limits=(float(low), float(high)))


def has_few_levels(image: np.ndarray) -> bool:
    """Tells whether an image, uint8 (h, w, c), has lost its gray levels.

    Small images, of which that cannot be said, have not.
    """
    if image.shape[0] * image.shape[1] < LEAST_PIXELS:
        return False
    return count_levels(image) < FEW_LEVELS


def count_levels(image: np.ndarray) -> int:
    """Counts the levels that occur in an image, uint8 (h, w, c), in any channel."""
    return int(np.count_nonzero(np.bincount(image.ravel())))


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
