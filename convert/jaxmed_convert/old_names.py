"""Names that tensors had in older versions of torchvision."""

import re
from collections.abc import Mapping
from typing import Any

# Old pattern and current name. DenseNet's published files still have "norm.1", from
# when torch allowed dots in the names of modules; torchvision's loader renames too.
# Those of its vision transformers are from before its MLP was a class.
OLD = (
    (r"(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)", r"\1\2"),
    (r"(.*encoder_layer_\d+\.mlp)\.linear_1\.(\w+)", r"\1.0.\2"),
    (r"(.*encoder_layer_\d+\.mlp)\.linear_2\.(\w+)", r"\1.3.\2"),
)


def renamed(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors by torchvision's current names, in the same order.

    An old name stays if the current one is there too: then it is one too many.
    """
    names = {name: _current(name) for name in tensors}
    return {
        name if names[name] in tensors else names[name]: tensor
        for name, tensor in tensors.items()
    }


def _current(name: str) -> str:
    for old, current in OLD:
        match = re.fullmatch(old, name)
        if match:
            return match.expand(current)
    return name
