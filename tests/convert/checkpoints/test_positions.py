"""Names of nn.Sequential(*children), of all architectures as torchvision has them."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model

import jaxmed
import jaxmed_convert
from jaxmed.errors import InputError
from jaxmed.models.backbones import vit
from jaxmed.models.parameters import split
from jaxmed.models.registry import ARCHITECTURES
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.checkpoints.find_network import select
from jaxmed_convert.checkpoints.positions import BARE, NOTE, children
from jaxmed_convert.weights.imagenet import PUBLISHED

TORCHVISION = [
    name
    for name in ARCHITECTURES
    if name in PUBLISHED
    and PUBLISHED[name].package is None
    # Theirs have tokens beside the children.
    and name not in vit.CONFIGURATIONS
]
HEADS = ("fc", "classifier")


def build(architecture: str, **options) -> nn.Module:
    if architecture == "inception_v3":
        options = {"init_weights": False} | options
    with torch.device("meta"):
        return get_model(architecture, weights=None, **options)


def arrays(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    zero = np.float32(0)
    return {
        prefix + name: np.broadcast_to(zero, tensor.shape)
        for name, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_the_children_are_torchvisions(architecture):
    found = [name for name, _ in build(architecture).named_children()]
    assert tuple(found) in children(architecture)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.0.", "module.encoder."])
@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "resnet50", "vgg11", "vgg11_bn", "mobilenet_v2", "densenet121",
     "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny", "inception_v3"],
)  # fmt: skip
def test_positions_become_names(architecture, prefix):
    network = build(architecture)
    given = arrays(nn.Sequential(*network.children()), prefix)
    found = select(given, architecture)
    wanted = backbone_targets(outline(architecture))
    assert wanted.keys() <= found.tensors.keys() <= arrays(network).keys()
    assert all(found.tensors[n].shape == wanted[n].shape for n in wanted)
    assert found.notes[0] == NOTE


def test_inception_without_its_auxiliary_head():
    network = build("inception_v3", aux_logits=False)
    found = select(arrays(nn.Sequential(*network.children())), "inception_v3")
    assert backbone_targets(outline("inception_v3")).keys() <= found.tensors.keys()


@pytest.mark.parametrize("architecture", ["mobilenet_v2", "densenet121", "vgg11"])
def test_features_alone(architecture):
    network = build(architecture)
    found = select(arrays(network.features, "encoder."), architecture, "own")
    own = {n: t for n, t in arrays(network).items() if n.startswith("features.")}
    assert found.tensors.keys() == own.keys()
    assert found.notes == (BARE,)


def test_a_body_with_a_head_behind_it():
    """As fastai's learners keep them."""
    body = nn.Sequential(*list(build("resnet18").children())[:-2])
    with torch.device("meta"):
        head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1024), nn.Linear(1024, 2))
    found = select(arrays(nn.Sequential(body, head)), "resnet18")
    own = {n for n in arrays(build("resnet18")) if not n.startswith("fc.")}
    assert found.tensors.keys() == own
    assert "Left out, being no part of resnet18: 1.1.weight (1024,)" in found.notes[1]


def test_the_weights_arrive_where_those_with_names_do(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path))
    torch.manual_seed(0)
    network = get_model("resnet18", weights=None)
    torch.save(network.state_dict(), tmp_path / "named.pth")
    body = nn.Sequential(*list(network.children())[:-1])
    torch.save({"backbone": body.state_dict()}, tmp_path / "positions.pth")
    models = [jaxmed.create_model("resnet18", num_classes=2, seed=0) for _ in range(2)]
    for model, name in zip(models, ("named", "positions"), strict=True):
        jaxmed_convert.initialize(model, f"file:{tmp_path / name}.pth")
    one, other = (split(model) for model in models)
    for path, array in (one.params | one.stats).items():
        np.testing.assert_array_equal(array, (other.params | other.stats)[path])


@pytest.mark.parametrize("given", ["resnet50", "densenet121"])
def test_of_another_architecture_the_sentence_speaks_of_real_tensors(tmp_path, given):
    body = nn.Sequential(*list(get_model(given, weights=None).children())[:-1])
    torch.save(body.state_dict(), tmp_path / "w.pth")
    model = jaxmed.create_model("resnet18", num_classes=2)
    with pytest.raises(InputError, match=f"They fit {given} best: 100%") as raised:
        jaxmed_convert.initialize(model, f"file:{tmp_path / 'w.pth'}")
    assert "(conv1.weight is" not in str(raised.value)
