"""Files of RadImageNet, torchxrayvision, timm and lukemelas: written by the packages.

Their weights are random, for the layout is what is asked: logits must be those of the
packages' own models.
"""

import re

import numpy as np
import pytest
import timm
import torch
import torchxrayvision
from efficientnet_pytorch import EfficientNet
from fixtures.marks import slow, slow_but
from torch import nn
from torchvision.models import get_model

import jaxmed_convert
from jaxmed.errors import InputError
from jaxmed.models.registry import create_model
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.package_names import LUKEMELAS, other_names
from jaxmed_convert.verify.parity import TOLERANCE
from jaxmed_convert.verify.references import random_reference
from jaxmed_convert.weights.pretrained import prepare

RADIMAGENET = ["resnet50", "densenet121", "inception_v3"]
TIMM = {
    "resnet18": "resnet18",
    "densenet121": "densenet121",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "tf_efficientnet_b0": "tf_efficientnet_b0",
    "mobilenet_v2": "mobilenetv2_100",
    "convnext_tiny": "convnext_tiny",
}


def started(path, architecture, cache, channels=3):
    """Starts a model from a file, and returns it with what is said of it."""
    model = create_model(architecture, num_classes=2, in_channels=channels)
    return model, jaxmed_convert.initialize(model, f"file:{path}", cache=cache)


def compare_pooled(model, expected, images):
    """Compares pooled features, (n, d), as heads are not converted."""
    pooled = np.asarray(model.backbone.pool(model.features(images)))
    difference = np.abs(pooled - expected).max()
    assert difference <= TOLERANCE * np.abs(expected).max()


def images_of(channels=3, size=96):
    shape = (2, size, size, channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def torch_features(module, images):
    with torch.inference_mode():
        channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return module(torch.from_numpy(channels_first)).flatten(1).numpy()


@pytest.mark.parametrize("architecture", slow_but(("resnet50",), RADIMAGENET))
def test_radimagenets_layout(architecture, tmp_path):
    """`nn.Sequential(*children)` without the last, in a module, as "backbone"."""
    network = random_reference(architecture, num_classes=3)
    layers = [*network.children()][:-1]
    if architecture == "densenet121":
        layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    published = nn.Module()
    published.backbone = nn.Sequential(*layers)
    path = tmp_path / "weights.pt"
    torch.save(published.state_dict(), path)

    model, said = started(path, architecture, tmp_path)

    assert "RadImageNet's files, whose images go from -1 to 1" in said.scale_reason
    assert model.mean == model.std == (0.5, 0.5, 0.5)
    images = images_of(size=128)
    compare_pooled(model, torch_features(published.backbone.eval(), images), images)
    # From the cache, too.
    again, said = started(path, architecture, tmp_path)
    assert again.mean == (0.5, 0.5, 0.5)
    assert "RadImageNet" in said.scale_reason


@pytest.mark.parametrize("channels", [1, slow(3)])
def test_torchxrayvisions_densenet_takes_one_channel(channels, tmp_path):
    torch.manual_seed(0)
    network = torchxrayvision.models.DenseNet(weights=None, op_threshs=torch.ones(18))
    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)

    model, said = started(path, "densenet121", tmp_path, channels)

    # x / 255 becomes from -1024 to 1024, as `normalize(x, 255)` has it.
    pixels = np.arange(0, 256, 5, dtype=np.float32)
    expected = torchxrayvision.utils.normalize(pixels, 255)
    scaled = (pixels / 255 - model.mean[0]) / model.std[0]
    np.testing.assert_allclose(scaled, expected, atol=1e-3)
    assert "torchxrayvision's, whose images go from -1024" in said.scale_reason
    images = images_of(1)
    with torch.inference_mode():
        gray = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        features = network.eval().features(gray).relu().mean(dim=(2, 3)).numpy()
    compare_pooled(model, features, images.repeat(channels, axis=3))


def test_torchxrayvisions_resnet_is_a_plain_state_dict(tmp_path):
    """Of torchvision's ResNet-50 with one channel and 18 findings, as in its source."""
    network = get_model("resnet50", num_classes=18)
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)
    model, said = started(path, "resnet50", tmp_path, 1)
    assert model.std == pytest.approx((0.5 / 1024,))
    assert "torchxrayvision" in said.scale_reason
    network.fc = nn.Identity()
    images = images_of(1)
    compare_pooled(model, torch_features(network.eval(), images), images)


def test_a_pickled_module_of_torchxrayvision_shows_what_to_do(tmp_path):
    path, weights = tmp_path / "whole.pt", tmp_path / "weights.pth"
    torch.save(torchxrayvision.models.DenseNet(weights=None), path)
    with pytest.raises(InputError, match="holds code") as caught:
        read_checkpoint(path)
    (lines,) = re.findall(r"If you trust it: (.*)", str(caught.value))
    exec(lines.replace('"weights.pth"', repr(str(weights))), {})
    assert "features.conv0.weight" in read_checkpoint(weights).tensors


@pytest.mark.parametrize("architecture", slow_but(("resnet18", "densenet121"), TIMM))
def test_timms_names(architecture, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(TIMM[architecture], pretrained=False, num_classes=5)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.ndim == 1:  # at their start, scales and biases hide a mistake
                tensor.uniform_(0.5, 1.0) if "bias" not in name else tensor.normal_()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    model, said = started(path, architecture, tmp_path)
    assert "The head is left out" in said.message
    images = images_of(size=97)
    with torch.inference_mode():
        channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        network.eval().reset_classifier(0)
        expected = network(channels_first).numpy()
    compare_pooled(model, expected, images)


@pytest.mark.slow
def test_lukemelas_names(tmp_path):
    """Of his EfficientNet-PyTorch, which pads as TensorFlow does."""
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-b0", image_size=None)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    model, said = started(path, "tf_efficientnet_b0", tmp_path)
    assert "Its names are those of lukemelas' EfficientNet-PyTorch." in said.message
    images = images_of(size=97)
    with torch.inference_mode():
        channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        features = network.eval().extract_features(channels_first)
        expected = features.mean(dim=(2, 3)).numpy()
    compare_pooled(model, expected, images)


def test_lukemelas_efficientnets_are_no_torchvisions(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(InputError, match="Take the backbone tf_efficientnet_b0"):
        prepare("efficientnet_b0", f"file:{path}", cache=tmp_path)
    with torch.device("meta"):
        theirs = {
            n for n, _ in EfficientNet.from_name("efficientnet-b0").named_modules()
        }
        ours = {n for n, _ in timm.create_model("tf_efficientnet_b0").named_modules()}
    (table,) = (t for t, note in other_names("tf_efficientnet_b0") if note == LUKEMELAS)
    assert set(table) <= theirs
    assert set(table.values()) <= ours
