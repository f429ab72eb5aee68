"""Which architecture a state dict is of."""

import math
from collections.abc import Mapping
from typing import Any

from jaxmed.models.registry import FAMILIES
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.rules import COUNTER, head_module, left_out
from jaxmed_convert.weights.torchvision import PUBLISHED

# A share of fitting tensors that makes looking further pointless. Two architectures
# can be as near as 0.94: resnext101_32x8d and resnext101_64x4d.
CLOSE = 0.97


def fit(state_dict: Mapping[str, Any], architecture: str, pool: str = "own") -> float:
    """Returns how well a state dict fits an architecture's backbone.

    Args:
        state_dict: tensors by torch's name.
        architecture, pool: see `Classifier`.

    Returns:
        The share of names that agree in shape, among those that either side has.
    """
    wanted = backbone_targets(outline(architecture, pool))
    head = head_module(architecture, pool) + "."
    given = {
        name
        for name in state_dict
        if not name.startswith(head) and not name.endswith(COUNTER)
    } - set(left_out(architecture, state_dict))
    agree = [
        name
        for name in given & wanted.keys()
        if tuple(state_dict[name].shape) == wanted[name].shape
    ]
    return len(agree) / len(given | wanted.keys())


def best_fit(state_dict: Mapping[str, Any]) -> tuple[str, float]:
    """Returns the architecture that fits best, of all there are, and its `fit`.

    Tracing all architectures would take many seconds. A family shows in its names, and
    within it the nearest in size is tried first: a close fit ends the search.
    """
    family = max(FAMILIES, key=lambda names: _names_shared(state_dict, names[0]))
    size = sum(math.prod(tensor.shape) for tensor in state_dict.values())

    def distance(architecture: str) -> float:
        if architecture not in PUBLISHED or not size:
            return math.inf
        return abs(math.log(size / PUBLISHED[architecture].parameters))

    best, best_share = family[0], 0.0
    for architecture in sorted(family, key=distance):
        share = fit(state_dict, architecture)
        if share > best_share:
            best, best_share = architecture, share
        if share >= CLOSE:
            break
    return best, best_share


def _names_shared(state_dict: Mapping[str, Any], architecture: str) -> float:
    wanted = backbone_targets(outline(architecture)).keys()
    return len(wanted & state_dict.keys()) / len(wanted)
