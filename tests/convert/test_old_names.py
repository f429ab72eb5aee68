"""DenseNet's old names, as in the files that torchvision publishes."""

import re

import numpy as np
import pytest
import torch
from torchvision.models import densenet121

from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch
from jaxmed_convert.checkpoints.find_network import select
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.old_names import renamed


@pytest.fixture(scope="module")
def state_dict():
    return densenet121(num_classes=2).state_dict()


@pytest.fixture(scope="module")
def old(state_dict):
    """With "norm.1", and without the counters that torch did not have then."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): tensor
        for name, tensor in state_dict.items()
        if tensor.ndim
    }


def test_old_names_become_torchvisions(state_dict, old):
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert list(renamed(old)) == [name for name in state_dict if state_dict[name].ndim]
    assert renamed(state_dict).keys() == state_dict.keys()


def test_torchvisions_loader_renames_the_same(state_dict, old, monkeypatch):
    """The oracle: what torchvision itself loads from a file with the old names."""
    from torchvision.models import DenseNet121_Weights, densenet

    class Weights:
        meta = DenseNet121_Weights.DEFAULT.meta

        def get_state_dict(self, **_):
            return dict(old)

    model = densenet121(num_classes=2)
    densenet._load_state_dict(model, Weights(), progress=False)  # type: ignore
    loaded = model.state_dict()
    for name, tensor in renamed(old).items():
        assert torch.equal(loaded[name], tensor)


def test_a_tensor_under_both_names_stays_twice(state_dict, old):
    name = "features.denseblock1.denselayer1.norm1.weight"
    both = renamed(old | {name: state_dict[name]})
    assert {name, "features.denseblock1.denselayer1.norm.1.weight"} <= both.keys()


def test_files_and_state_dicts_with_old_names_are_converted(state_dict, old, tmp_path):
    path = tmp_path / "densenet121.pth"
    torch.save({f"module.{name}": tensor for name, tensor in old.items()}, path)
    found = select(read_checkpoint(path).tensors, "densenet121")
    for tensors in (old, found.tensors):
        model = create_model("densenet121", num_classes=2)
        assert from_torch(model, tensors).tensors == len(old)
        params = split(model).params
        name = "features.denseblock3.denselayer24.conv2"
        kernel = np.asarray(params[f"backbone.{name}.kernel"]).transpose(3, 2, 0, 1)
        assert np.array_equal(kernel, state_dict[f"{name}.weight"])
