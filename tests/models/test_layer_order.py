"""The order of layers against the order in which torchvision calls its modules."""

import pytest
import torch
from torchvision.models import get_model

from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies.presets.by_stage import layers_in_order
from jaxmed_convert.rules import module_name

NAMES = [
    "resnet18",
    "mobilenet_v2",
    "densenet121",
    "inception_v3",
    "efficientnet_b0",
    "convnext_tiny",
]


def calls_of_torch(name):
    """The modules with parameters of their own, as their calls end.

    Not as they begin: ConvNeXt's block, which has the layer scale, begins before the
    layers inside it and applies the scale after them.
    """
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        model = get_model(name, **options).eval()
        images = torch.zeros(1, 3, 299, 299)
    called = []
    for path, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, path=path: called.append(path))
    model(images)
    return called


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_in_the_order_of_torchvisions_calls(name):
    model = create_model(name, num_classes=2)
    ours = layers_in_order(model)
    assert [module_name(model, path) for path in ours] == calls_of_torch(name)
    # All there are, each once.
    assert set(ours) == {path.rpartition(".")[0] for path in split(model).params}
    assert len(set(ours)) == len(ours)


def test_a_head_with_a_hidden_layer_comes_last():
    model = create_model("resnet10_narrow", num_classes=2, head="hidden")
    assert layers_in_order(model)[-2:] == ["head.hidden", "head.out"]
