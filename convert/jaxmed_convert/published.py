"""torchvision's published weights, as far as they must be known without torch.

A test compares this table with torchvision's own. The addresses stay with
torchvision: they are needed only where torch is there to read the files.
"""

from typing import NamedTuple

from jaxmed.errors import InputError, unknown


class Published(NamedTuple):
    """What torchvision says about an architecture.

    Attributes:
        parameters: how many, with the head for 1000 classes.
        image_size: side in pixels of the images it was evaluated on.
        top1: ImageNet top-1 accuracy in percent, by the weights' name in torchvision's
            enum. The last one is the default.
    """

    parameters: int
    image_size: int
    top1: dict[str, float]


def _v1_and_v2(v1: float, v2: float) -> dict[str, float]:
    return {"IMAGENET1K_V1": v1, "IMAGENET1K_V2": v2}


PUBLISHED = {
    "resnet18": Published(11_689_512, 224, {"IMAGENET1K_V1": 69.758}),
    "resnet34": Published(21_797_672, 224, {"IMAGENET1K_V1": 73.314}),
    "resnet50": Published(25_557_032, 224, _v1_and_v2(76.13, 80.858)),
    "resnet101": Published(44_549_160, 224, _v1_and_v2(77.374, 81.886)),
    "resnet152": Published(60_192_808, 224, _v1_and_v2(78.312, 82.284)),
    "resnext50_32x4d": Published(25_028_904, 224, _v1_and_v2(77.618, 81.198)),
    "resnext101_32x8d": Published(88_791_336, 224, _v1_and_v2(79.312, 82.834)),
    "resnext101_64x4d": Published(83_455_272, 224, {"IMAGENET1K_V1": 83.246}),
    "wide_resnet50_2": Published(68_883_240, 224, _v1_and_v2(78.468, 81.602)),
    "wide_resnet101_2": Published(126_886_696, 224, _v1_and_v2(78.848, 82.51)),
}


def published(architecture: str) -> Published:
    """Returns the row of an architecture.

    Raises:
        InputError: there is no such row.
    """
    if architecture not in PUBLISHED:
        raise InputError(
            f"torchvision publishes no weights for {architecture!r}, only for: "
            f"{', '.join(PUBLISHED)}."
        )
    return PUBLISHED[architecture]


def resolve(architecture: str, weights: str) -> str:
    """Returns the name in torchvision's enum that `weights` stands for.

    Args:
        architecture: torchvision's name.
        weights: "imagenet" for torchvision's default, or a name in the enum.

    Raises:
        InputError: an unknown name.
    """
    names = list(published(architecture).top1)
    if weights == "imagenet":
        return names[-1]
    if weights not in names:
        raise unknown(f"weights for {architecture}", weights, ["imagenet", *names])
    return weights


def address(architecture: str, weights: str) -> str:
    """Returns the URL that torchvision gives for weights of its enum.

    Raises:
        InputError: torchvision is not installed, or too old to know them.
    """
    from jaxmed_convert.checkpoints import require_torch

    require_torch()
    from torchvision.models import get_model_weights

    members = get_model_weights(architecture).__members__
    if weights not in members:
        raise InputError(
            f"The installed torchvision has no weights {weights} for {architecture}. "
            "Install a newer one."
        )
    return members[weights].url
