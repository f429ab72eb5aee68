"""Names that other packages' models give the tensors of torchvision's networks.

Ours are torchvision's. timm's DenseNets, ResNets and Inception V3 have the same; its
MobileNetV2, EfficientNets and ConvNeXts do not, and neither does
efficientnet-lite-pytorch, whose EfficientNet-Lite has the names of lukemelas'
EfficientNet-PyTorch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxmed.errors import InputError
from jaxmed.models.backbones import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_lite,
    mobilenet,
)

# Networks whose modules timm names as torchvision does.
SAME_IN_TIMM = re.compile(
    r"(wide_)?res(net|next)(18|34|50|101|152)(_.*)?|densenet\d+|inception_v3|"
    r"tf_efficientnet_b\d"
)

# A convolution and its BatchNorm in a block of each package: first the one to more
# channels, if there is one, then the depthwise one, then the one to fewer channels.
_LUKEMELAS = (
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
_TIMM = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
TIMM = "Its names are timm's."
KERAS = "Its names are those of keras.applications."
LUKEMELAS = "Its names are those of lukemelas' EfficientNet-PyTorch."
# timm's blocks that do not expand, and its fused ones that do and that do not.
_TIMM_NARROW = (("conv_dw", "bn1"), ("conv_pw", "bn2"))
_TIMM_FUSED = (("conv_exp", "bn1"), ("conv_pwl", "bn2"))
_TIMM_PLAIN = (("conv", "bn1"),)


class TimmModel(NamedTuple):
    """timm's model of a network.

    Attributes:
        name: of it in timm.
        modules: its names of modules, by those in the torch model that ours is
            converted from, where they differ; of modules within them it has the same.
        arguments: of `timm.create_model` that make it the same network.
    """

    name: str
    modules: Mapping[str, str]
    arguments: Mapping[str, Any] = {}


def timm_model(architecture: str) -> TimmModel | None:
    """Return timm's model of the same network; None if there is none.

    None for VGG, whose hidden layers timm applies to maps of another size.

    Args:
        architecture: a name in the zoo.

    Examples:
        >>> timm_model("efficientnet_lite0").name
        'tf_efficientnet_lite0'
    """
    if SAME_IN_TIMM.fullmatch(architecture):
        return TimmModel(architecture, {})
    if architecture in mobilenet.CONFIGURATIONS:
        names = _timm_mobilenet() | {"classifier.1": "classifier"}
        return TimmModel("mobilenetv2_100", names)
    if architecture in convnext.CONFIGURATIONS:
        names = _timm_convnext(architecture) | {"classifier.2": "head.fc"}
        return TimmModel(architecture, names)
    if architecture in efficientnet_lite.CONFIGURATIONS:
        torch, timm = lukemelas_names(architecture), _timm_efficientnet(architecture)
        names = {name: timm[path] for path, name in torch.items()}
        return TimmModel(f"tf_{architecture}", names | {"_fc": "classifier"})
    if architecture in efficientnet.CONFIGURATIONS:
        names = _timm_efficientnet(architecture) | {"classifier.1": "classifier"}
        epsilon = EFFICIENTNETS[architecture]["layers"].norm.get("epsilon", 1e-5)
        arguments = {"bn_eps": epsilon} if epsilon != 1e-5 else {}
        name = architecture.replace("_v2_", "v2_")
        return TimmModel(name, names, arguments)
    return None


def other_names(architecture: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yields other packages' names of a network's modules.

    Args:
        architecture: a name in the zoo.

    Yields:
        The names in the torch model that ours is converted from, by theirs; and a
        sentence that says whose they are.
    """
    model = timm_model(architecture)
    if model and model.modules:
        yield {theirs: ours for ours, theirs in model.modules.items()}, TIMM
    if architecture in densenet.CONFIGURATIONS:
        yield _keras_densenet(architecture), KERAS
    if architecture.startswith("tf_"):
        torch = torch_names(architecture)
        names = lukemelas_names(architecture).items()
        yield (
            {other: torch[path] for path, other in names} | {"_fc": "classifier"},
            (LUKEMELAS),
        )


def check_padding(names: Iterable[str], file: Path, architecture: str) -> None:
    """Check that lukemelas' EfficientNets are not taken for torchvision's.

    Raises:
        InputError: the names are those, and the architecture is not padded so.
    """
    if architecture in efficientnet.CONFIGURATIONS and (
        not architecture.startswith("tf_")
        and any(name.endswith("_conv_stem.weight") for name in names)
    ):
        raise InputError(
            f"The file {file} is of lukemelas' EfficientNet-PyTorch, whose "
            f"convolutions are padded as TensorFlow pads, and {architecture}'s are "
            f"not. Take the backbone tf_{architecture}."
        )


def torch_names(architecture: str) -> Mapping[str, str]:
    """Return the names in torch of modules that torchvision lacks, by ours."""
    if architecture in efficientnet_lite.CONFIGURATIONS:
        return lukemelas_names(architecture)
    if architecture.startswith("tf_"):
        return _timm_efficientnet(architecture)
    return {}


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
def _keras_densenet(architecture: str) -> dict[str, str]:
    """Return torchvision's names of a DenseNet's modules, by Keras'."""
    names = {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0"}
    layers = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
    depths = densenet.CONFIGURATIONS[architecture]["depths"]
    for i, depth in enumerate(depths, start=1):
        for j in range(1, depth + 1):
            ours = f"features.denseblock{i}.denselayer{j}"
            names |= {
                f"conv{i + 1}_block{j}_{theirs}": f"{ours}.{name}"
                for theirs, name in layers.items()
            }
        for name, theirs in (("norm", "bn"), ("conv", "conv")):
            if i < len(depths):
                names[f"pool{i + 1}_{theirs}"] = f"features.transition{i}.{name}"
    return names | {"bn": "features.norm5", "predictions": "classifier"}


@cache
def _timm_mobilenet() -> dict[str, str]:
    names, number = {"features.0.0": "conv_stem", "features.0.1": "bn1"}, 1
    for i, (expansion, _, depth, _) in enumerate(mobilenet.BLOCKS):
        layers = _TIMM if expansion > 1 else _TIMM_NARROW
        for j in range(depth):
            ours, last = f"features.{number}.conv", len(layers) - 1
            # The last convolution and its BatchNorm are not in a module of their own.
            torch = [(f"{k}.0", f"{k}.1") for k in range(last)]
            torch += [(f"{last}", f"{last + 1}")]
            for pair, theirs in zip(torch, layers, strict=True):
                for name, other in zip(pair, theirs, strict=True):
                    names[f"{ours}.{name}"] = f"blocks.{i}.{j}.{other}"
            number += 1
    return names | {
        f"features.{number}.0": "conv_head",
        f"features.{number}.1": "bn2",
    }


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
