"""Every architecture's names and shapes against torchvision's, without numbers."""

import pytest
import torch
from flax import nnx

from jaxmed.models.registry import create_model
from jaxmed_convert.rules import SWITCHES, counters, head_module, targets
from jaxmed_convert.verify.references import torch_model
from jaxmed_convert.weights.imagenet import PUBLISHED


def _torch_head(kind: str, features: int, classes: int) -> torch.nn.Module:
    if kind == "linear":
        return torch.nn.Linear(features, classes)
    if kind == "dropout":
        return torch.nn.Sequential(
            torch.nn.Dropout(0.5), torch.nn.Linear(features, classes)
        )
    return torch.nn.Sequential(
        torch.nn.Linear(features, 256),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(256, classes),
    )


def _replace_head(reference: torch.nn.Module, name: str, kind: str) -> None:
    linear = reference.get_submodule(name)
    assert isinstance(linear, torch.nn.Linear)
    parent, _, last = name.rpartition(".")
    head = _torch_head(kind, linear.in_features, 7)
    setattr(reference.get_submodule(parent), last, head)


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        *((architecture, "linear") for architecture in PUBLISHED),
        ("resnet18", "dropout"),
        ("resnet50", "hidden"),
        ("vgg11", "dropout"),
        ("mobilenet_v2", "hidden"),
        ("convnext_tiny", "hidden"),
        ("inception_v3", "dropout"),
    ],
)
def test_targets_are_a_bijection_onto_torchvisions_tensors(architecture, head):
    with torch.device("meta"):
        reference = torch_model(architecture)
        _replace_head(reference, head_module(architecture), head)
    expected = {n: tuple(t.shape) for n, t in reference.state_dict().items()}
    model = nnx.eval_shape(lambda: create_model(architecture, num_classes=7, head=head))

    found = targets(model)

    names = counters(found)
    assert len(names) == len(set(names))
    shapes = {n: target.shape for n, target in found.items()} | dict.fromkeys(names, ())
    assert shapes == expected
    leaves = nnx.to_flat_state(nnx.state(model))
    paths = sorted(".".join(map(str, path)) for path, _ in leaves)
    switches = SWITCHES.get(architecture, ())
    assert sorted([*switches, *(target.path for target in found.values())]) == paths
