"""Names that other packages' models give the tensors of torchvision's networks.

Ours are torchvision's. timm's DenseNets, ResNets, VGGs and Inception V3 have the same;
its EfficientNets and ConvNeXts do not, and neither does efficientnet-lite-pytorch,
whose EfficientNet-Lite has the names of lukemelas' EfficientNet-PyTorch.
"""

from collections.abc import Iterator
from functools import cache

from jaxmed.models.backbones import convnext, efficientnet, efficientnet_lite

# A convolution and its BatchNorm in a block of each package: first the one to more
# channels, if there is one, then the depthwise one, then the one to fewer channels.
_LUKEMELAS = (
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
_TIMM = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
TIMM = "Its names are timm's."
# timm's blocks that do not expand, and its fused ones that do and that do not.
_TIMM_NARROW = (("conv_dw", "bn1"), ("conv_pw", "bn2"))
_TIMM_FUSED = (("conv_exp", "bn1"), ("conv_pwl", "bn2"))
_TIMM_PLAIN = (("conv", "bn1"),)


def other_names(architecture: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yields other packages' names of a network's modules.

    Args:
        architecture: a name in the zoo.

    Yields:
        The names in the torch model that ours is converted from, by theirs; and a
        sentence that says whose they are.
    """
    if architecture in efficientnet_lite.CONFIGURATIONS:
        torch = lukemelas_names(architecture)
        timm = _timm_efficientnet(architecture)
        known = {timm[path]: name for path, name in torch.items()}
        yield known | {"classifier": "_fc"}, TIMM
    elif architecture in EFFICIENTNETS:
        timm = _inverse(_timm_efficientnet(architecture))
        yield timm | {"classifier": "classifier.1"}, TIMM
    if architecture in convnext.CONFIGURATIONS:
        timm = _inverse(_timm_convnext(architecture))
        yield timm | {"head.fc": "classifier.2"}, TIMM


def _inverse(names: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}


EFFICIENTNETS = efficientnet.CONFIGURATIONS | efficientnet_lite.CONFIGURATIONS


@cache
def lukemelas_names(architecture: str) -> dict[str, str]:
    """Returns lukemelas' names of an EfficientNet's modules, by ours."""
    options = EFFICIENTNETS[architecture]
    names, number = {"features.0.0": "_conv_stem", "features.0.1": "_bn0"}, 0
    for i, row in enumerate(options["rows"], start=1):
        for j in range(row.depth):
            layers = _LUKEMELAS if row.expansion > 1 else _LUKEMELAS[1:]
            names |= _block_names(
                f"features.{i}.{j}.block",
                f"_blocks.{number}",
                layers,
                ("_se_reduce", "_se_expand") if options["layers"].squeeze else (),
            )
            number += 1
    last = len(options["rows"]) + 1
    return names | {f"features.{last}.0": "_conv_head", f"features.{last}.1": "_bn1"}


@cache
def _timm_efficientnet(architecture: str) -> dict[str, str]:
    options = EFFICIENTNETS[architecture]
    names = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
    for i, row in enumerate(options["rows"], start=1):
        if row.fused:
            layers = _TIMM_FUSED if row.expansion > 1 else _TIMM_PLAIN
        else:
            layers = _TIMM if row.expansion > 1 else _TIMM_NARROW
        squeezes = options["layers"].squeeze and not row.fused
        for j in range(row.depth):
            names |= _block_names(
                f"features.{i}.{j}.block",
                f"blocks.{i - 1}.{j}",
                layers,
                ("se.conv_reduce", "se.conv_expand") if squeezes else (),
            )
    last = len(options["rows"]) + 1
    return names | {f"features.{last}.0": "conv_head", f"features.{last}.1": "bn2"}


def _block_names(
    ours: str,
    theirs: str,
    layers: tuple[tuple[str, str], ...],
    squeeze: tuple[str, ...],
) -> dict[str, str]:
    """Returns the names of one block: its layers, the last of them behind squeezing."""
    names = {}
    for k, pair in enumerate(layers):
        behind = bool(squeeze) and k == len(layers) - 1
        for m, name in enumerate(pair):
            names[f"{ours}.{k + behind}.{m}"] = f"{theirs}.{name}"
    for name, other in zip(("fc1", "fc2"), squeeze, strict=False):
        names[f"{ours}.{len(layers) - 1}.{name}"] = f"{theirs}.{other}"
    return names


@cache
def _timm_convnext(architecture: str) -> dict[str, str]:
    names = {
        "features.0.0": "stem.0",
        "features.0.1": "stem.1",
        "classifier.0": "head.norm",
    }
    for i, depth in enumerate(convnext.CONFIGURATIONS[architecture]["depths"]):
        if i > 0:
            names |= {
                f"features.{2 * i}.{k}": f"stages.{i}.downsample.{k}" for k in (0, 1)
            }
        for j in range(depth):
            ours, theirs = f"features.{2 * i + 1}.{j}", f"stages.{i}.blocks.{j}"
            names |= {
                f"{ours}.block.0": f"{theirs}.conv_dw",
                f"{ours}.block.2": f"{theirs}.norm",
                f"{ours}.block.3": f"{theirs}.mlp.fc1",
                f"{ours}.block.5": f"{theirs}.mlp.fc2",
                f"{ours}.layer_scale": f"{theirs}.gamma",
            }
    return names
