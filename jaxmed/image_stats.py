"""What the channels of images are normalized by.

Data are normalized by it, and models carry what their weights want. The two know
nothing of each other, so it is here.
"""

from typing import NamedTuple


class Scale(NamedTuple):
    """The mean and the deviation of every channel, of images scaled to [0, 1].

    A network gets `(image - mean) / std`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def for_channels(self, channels: int) -> "Scale":
        """Returns what this scale of RGB is for images with other channels.

        A single gray channel is scaled as red is. Of any other number every channel
        has the mean of the three, for nothing says which of them is which.
        """
        if channels == 3:
            return self
        if channels == 1:
            return Scale(self.mean[:1], self.std[:1])
        mean, std = (sum(numbers) / 3 for numbers in self)
        return Scale((mean,) * channels, (std,) * channels)

    def describe(self, reason: str) -> str:
        """Return the numbers, and the reason for them, in words.

        Examples:
            >>> Scale((0.5,), (0.25,)).describe("as the recipe says")
            'mean 0.5 and std 0.25 (as the recipe says)'
        """
        mean, std = (", ".join(f"{number:.6g}" for number in part) for part in self)
        return f"mean {mean} and std {std} ({reason})"


IMAGENET = Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Where the default weights were trained on images of another scale: from -1 to 1, and
# (x - 127) / 128 of images from 0 to 255.
HALF = Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LITE = Scale((127 / 255,) * 3, (128 / 255,) * 3)
# RAD-DINO's, and those of OpenAI's CLIP, which BiomedCLIP has too.
RAD_DINO = Scale((0.5307,) * 3, (0.2583,) * 3)
CLIP = Scale((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
OTHERS = {
    "efficientnet_v2_l": HALF,
    **{f"efficientnet_lite{i}": LITE for i in range(5)},
    **{f"vit_{size}_patch16_224": HALF for size in ("tiny", "small", "base", "large")},
    "rad_dino": RAD_DINO,
}


def scale_of(architecture: str) -> Scale:
    """Returns what the default ImageNet weights of an architecture want of RGB."""
    return OTHERS.get(architecture, IMAGENET)
