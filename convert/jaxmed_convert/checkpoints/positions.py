"""Names that say where a module stands, or another package's, and not torchvision's.

`nn.Sequential(*network.children())` is how many scripts take the head off: those of
RadImageNet's own files, Lightly and fastai. Its modules are called "0", "1" and so on.
Others save `network.features` alone, whose tensors lack that part of their names.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxmed_convert.checkpoints.prefixes import best, count_prefixes
from jaxmed_convert.package_names import other_names

# The children of torchvision's networks in their order, by architecture. Where there is
# more than one line, an argument of the network decides.
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4",
           "avgpool", "fc")  # fmt: skip
_FEATURES = ("features", "avgpool", "classifier")
_INCEPTION = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1",
              "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c",
              "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
              "AuxLogits", "Mixed_7a", "Mixed_7b", "Mixed_7c", "avgpool", "dropout",
              "fc")  # fmt: skip
CHILDREN = (
    (r"(wide_)?res(net|next)\d+.*", _RESNET),
    (r"vgg\d+(_bn)?|efficientnet_[bv].*|convnext_.*", _FEATURES),
    (r"mobilenet_v2|densenet\d+", ("features", "classifier")),
    (r"inception_v3", _INCEPTION),
    (r"inception_v3", tuple(name for name in _INCEPTION if name != "AuxLogits")),
)
NOTE = "Its names are positions, as nn.Sequential(*network.children()) gives them."
BARE = "Its names lack their first part, as those of network.features do."


def children(architecture: str) -> list[tuple[str, ...]]:
    """Returns the possible orders of a network's children."""
    return [order for name, order in CHILDREN if re.fullmatch(name, architecture)]


def named(
    tensors: Mapping[str, Any], architecture: str, wanted: set[str]
) -> tuple[Mapping[str, Any], int, str]:
    """Gives tensors torchvision's names where theirs are positions or cut short.

    Args:
        tensors: by the names in a checkpoint, with any prefix.
        architecture: what the network should be.
        wanted: torchvision's names of its backbone's tensors.

    Returns:
        The tensors; how many of the wanted names there are then, behind the prefix
        that has the most; and a sentence, empty if the names were torchvision's.
    """
    _, hits = best(count_prefixes(tensors, wanted))
    renamed, note = tensors, ""
    for tops, sentence in _tops(architecture, wanted):
        names = {new: old for old, new in tops.items()}
        aliases = {replace_start(name, names) for name in wanted} - wanted
        prefix, more = best(count_prefixes(tensors, aliases))
        if more > hits:
            hits, note = more, sentence
            renamed = {
                prefix + replace_start(name.removeprefix(prefix), tops)
                if name.startswith(prefix)
                else name: tensor
                for name, tensor in tensors.items()
            }
            renamed = {name: _shaped(name, tensor) for name, tensor in renamed.items()}
    return renamed, hits, note


def _tops(architecture: str, wanted: set[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yields what names may begin with instead, and what that stands for."""
    for order in children(architecture):
        yield {str(position): child for position, child in enumerate(order)}, NOTE
    inside = (n.split(".")[1] for n in wanted if n.startswith("features."))
    if features := {top: f"features.{top}" for top in inside}:
        yield features, BARE
    yield from other_names(architecture)


def replace_start(name: str, starts: Mapping[str, str]) -> str:
    """Return a name with its longest known start, of whole parts, replaced."""
    start = name
    while start not in starts:
        start, _, _ = start.rpartition(".")
        if not start:
            return name
    return starts[start] + name.removeprefix(start)


def _shaped(name: str, tensor: Any) -> Any:
    """Returns timm's layer scale of ConvNeXt, (c,), as torchvision's, (c, 1, 1)."""
    if name.endswith(".layer_scale") and tensor.ndim == 1:
        return tensor[:, None, None]
    return tensor
