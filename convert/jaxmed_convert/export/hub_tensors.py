"""A model's tensors as a folder of the Hugging Face Hub has them, and back.

They have timm's names where timm has the same network, torchvision's otherwise.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmed.models.classifier import Classifier
from jaxmed_convert.checkpoints.find_network import select
from jaxmed_convert.checkpoints.positions import replace_start
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.conversion import from_torch, to_torch_arrays
from jaxmed_convert.package_names import timm_model
from jaxmed_convert.rules import head_module


class HubTensors(NamedTuple):
    """A model for the Hub.

    Attributes:
        library: that builds the network, "timm" or "jaxmed".
        architecture: the network's name there.
        arguments: of `timm.create_model`, beside the number of classes.
        classifier: the name of the module that gives the logits.
        tensors: by name.
    """

    library: str
    architecture: str
    arguments: dict[str, Any]
    classifier: str
    tensors: dict[str, np.ndarray]


def to_hub(model: Classifier) -> HubTensors:
    """Return a model's tensors, head included, with the names they have on the Hub."""
    tensors = to_torch_arrays(model)
    head = head_module(model.architecture, model.pool)
    timm = timm_model(model.architecture)
    # timm's classifiers have no hidden layer.
    if timm is None or model.head.kind == "hidden":
        return HubTensors("jaxmed", model.architecture, {}, head, tensors)
    arguments = dict(timm.arguments)
    if model.head.kind == "dropout":
        arguments["drop_rate"] = model.head.dropout.rate
        tensors = _renamed(tensors, {f"{head}.1": head})
    if model.in_channels != 3:
        arguments["in_chans"] = model.in_channels
    tensors = {
        # ConvNeXt's layer scale, (c, 1, 1), has one axis there.
        name: tensor.ravel() if name.endswith(".gamma") else tensor
        for name, tensor in _renamed(tensors, timm.modules).items()
    }
    classifier = replace_start(head, timm.modules)
    return HubTensors("timm", timm.name, arguments, classifier, tensors)


def load_from_hub(model: Classifier, file: Path) -> None:
    """Fill a model, head included, with the tensors of `to_hub` in a file."""
    tensors = read_checkpoint(file).tensors
    tensors = select(tensors, model.architecture, model.pool).tensors
    head = head_module(model.architecture, model.pool)
    if model.head.kind == "dropout" and f"{head}.weight" in tensors:
        tensors = _renamed(tensors, {head: f"{head}.1"})
    from_torch(model, tensors)


def _renamed(tensors: Mapping[str, Any], starts: Mapping[str, str]) -> dict[str, Any]:
    return {replace_start(name, starts): tensor for name, tensor in tensors.items()}
