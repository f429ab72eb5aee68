"""Scales of images: of the weights in a file, and of a model outside of jaxmed.

A wrong scale cannot be seen in weights, so whoever starts from a file is told which
one is taken and why, where the file shows whose weights they are.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxmed.image_stats import CLIP, HALF, IMAGENET, Scale
from jaxmed.models.backbones.inception import FACTORS, OFFSETS
from jaxmed.models.classifier import Classifier

# torchxrayvision's images go from -1024 to 1024: its `normalize(image, 255)`.
XRAY = Scale((0.5,) * 3, (0.5 / 1024,) * 3)
# What its DenseNets keep beside their weights, and how many findings its networks name.
THRESHOLDS, FINDINGS = "op_threshs", 18
# RadImageNet's published files are of a module that holds `nn.Sequential(*children)`,
# without the head, as "backbone".
POSITIONAL = re.compile(r"backbone\.\d+\.")


def scale_of_file(
    tensors: Mapping[str, Any], *, gray: bool
) -> tuple[Scale | None, str]:
    """Finds what a file's weights want of images.

    Args:
        tensors: all of the file, by its own names.
        gray: whether the first convolution takes one channel.

    Returns:
        The scale of RGB images, None if nothing shows it; and the reason, in words.
    """
    if tensors and all(POSITIONAL.match(name) for name in tensors):
        return HALF, (
            "its names are those of RadImageNet's files, whose images go from -1 to 1"
        )
    if any(".trunk.blocks." in f".{name}" for name in tensors):
        return CLIP, "it is a network of open_clip's, whose images CLIP normalizes"
    if any("decoder_blocks." in name for name in tensors):
        return IMAGENET, "it is a masked autoencoder's, which has ImageNet's"
    heads = [
        t for n, t in tensors.items() if n.endswith(("classifier.weight", "fc.weight"))
    ]
    named = any(len(head) == FINDINGS for head in heads)
    if gray and (named or any(name.endswith(THRESHOLDS) for name in tensors)):
        return XRAY, (
            "it is a network of torchxrayvision's, whose images go from -1024 to 1024"
        )
    return None, "the file does not say what its weights want: model.mean, model.std"


def torch_scale(model: Classifier) -> Scale:
    """Return what the images of torchvision's model are normalized by.

    It is the model's own mean and std, but for an Inception V3 that rescales what it
    gets: torchvision's would for RGB alone, so the rescaling is in these numbers.
    """
    switch = getattr(model.backbone, "transform_input", None)
    if switch is None or not float(switch.on[...]):
        return Scale(model.mean, model.std)
    factors, offsets = FACTORS, OFFSETS
    if model.in_channels != len(FACTORS):
        factors = (sum(FACTORS) / 3,) * model.in_channels
        offsets = (sum(OFFSETS) / 3,) * model.in_channels
    # ((x - mean) / std) * factor + offset, as (x - other mean) / other std.
    rows = list(zip(model.mean, model.std, factors, offsets, strict=True))
    mean = tuple(mean - offset * std / factor for mean, std, factor, offset in rows)
    return Scale(mean, tuple(std / factor for _, std, factor, _ in rows))
