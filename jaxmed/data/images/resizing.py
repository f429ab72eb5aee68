"""Image resizing to squares: by squashing, padding or cropping.

The sizes here are torchvision's. Images are brought to one shape while they are decoded
(`make_square`, by Pillow), and to the network's size on the device
(`jaxmed.data.transforms.preprocess.resize`); both together do what one of them would.
"""

import math
from dataclasses import dataclass

from PIL import Image

from jaxmed.errors import InputError, unknown

MODES = ("squash", "pad", "crop")
# Resize(256) and CenterCrop(224): how torchvision's models of ImageNet are evaluated.
FACTOR = 256 / 224


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """How an image becomes a square of the right size.

    Attributes:
        mode: "squash" resizes width and height each on its own, as Resize((s, s)).
            "pad" resizes the longer side and paints what is missing of a square
            black, half of it on either side, as Resize(None, max_size=s) and
            CenterCrop(s). Black is what torchvision's Pad paints unless told
            otherwise, and what surrounds the picture on radiographs, ultrasound and
            photographs of the retina. "crop" resizes the shorter side to more than
            needed and cuts out the middle, as Resize(round(s * factor)) and
            CenterCrop(s).
        factor: for "crop", the shorter side over the side of the square, at least 1;
            the part cut out is 1 / factor of it.

    Raises:
        InputError: an unknown mode, or a factor below 1 or not finite.
    """

    mode: str = "squash"
    factor: float = FACTOR

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("way to resize", self.mode, MODES)
        if not 1 <= self.factor < math.inf:
            raise InputError(
                f"The factor of resizing must be at least 1, got {self.factor}."
            )

    def stored_side(self, size: int) -> int:
        """Returns the side of the squares that are kept of images of many sizes.

        It is the network's, but for "crop", where training may cut out other parts
        than the middle, what is kept is all of the shorter side.
        """
        return round(size * self.factor) if self.mode == "crop" else size

    def resized_shape(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Returns the height and width that the whole image is resized to."""
        if self.mode == "squash":
            return size, size
        short, long = sorted((height, width))
        if self.mode == "pad":
            # torchvision refuses images so thin that no pixel is left of them.
            new_short, new_long = max(1, int(size * short / long)), size
        else:
            new_short = self.stored_side(size)
            new_long = int(new_short * long / short)
        return (new_short, new_long) if height <= width else (new_long, new_short)


SQUASH = Resizing()


def find_start(length: int, size: int, side: int | None = None) -> int:
    """Returns where CenterCrop begins in a line of pixels; below 0 where it pads.

    Args:
        length: of the line.
        size: of the crop.
        side: pixels to keep around it, if more. CenterCrop(size) of these is
            CenterCrop(size) of all, though each of the two rounds.
    """
    if length < size:
        return -((size - length) // 2)
    margin = 0 if side is None else round((side - size) / 2)
    return round((length - size) / 2) - margin


def make_square(image: Image.Image, size: int, resizing: Resizing) -> Image.Image:
    """Brings an image to the square that is kept of it.

    Args:
        image: of mode L or RGB.
        size: pixels of a side that the network gets.
        resizing: how.

    Returns:
        An image of `resizing.stored_side(size)` pixels a side, in which the device
        finds what torchvision would make of the whole one.
    """
    side = resizing.stored_side(size)
    rows, columns = resizing.resized_shape(image.height, image.width, size)
    top, left = find_start(rows, size, side), find_start(columns, size, side)
    # Without draft(): a JPEG's own scaling is faster but gray levels off.
    if min(rows, columns) < side:
        resized = image.resize((columns, rows), Image.Resampling.BILINEAR)
        square = Image.new(image.mode, (side, side))
        square.paste(resized, (-left, -top))
        return square
    # The box is what to compute: Pillow looks at the pixels beside it too, so this is
    # a part of the whole resized image, without the rest, which may be very long.
    down, across = image.height / rows, image.width / columns
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    inside = (*box[:2], min(box[2], image.width), min(box[3], image.height))
    return image.resize((side, side), Image.Resampling.BILINEAR, box=inside)
