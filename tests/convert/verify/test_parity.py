"""Logits and layers of whole networks against torchvision's."""

import numpy as np
import pytest
import torch
from flax import nnx

from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.verify.parity import TOLERANCE, compare
from jaxmed_convert.verify.references import loaded_reference, random_reference
from jaxmed_convert.weights.imagenet import PUBLISHED, published

# The smallest of each family and, of ResNets, of each kind of block.
USUAL = [
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "mobilenet_v2",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_lite0",
    "convnext_tiny",
    "inception_v3",
]


def _check_logits(architecture: str, *sizes: int) -> None:
    reference = random_reference(architecture)
    # Without numbers until here: those it would start with take seconds to draw.
    model = nnx.eval_shape(lambda: create_model(architecture, num_classes=1000))
    from_torch(model, reference.state_dict())
    run = nnx.jit(lambda model, images: model(images))
    for n, h, w in ((2, 97, 128), *((1, size, size) for size in sizes)):
        images = np.random.default_rng(h).standard_normal((n, h, w, 3), np.float32)
        with torch.inference_mode():
            channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            expected = reference(torch.from_numpy(channels_first)).numpy()
        difference = np.abs(np.asarray(run(model, images)) - expected).max()
        assert difference <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("architecture", USUAL)
def test_logits_agree_with_random_weights_and_statistics(architecture):
    _check_logits(architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(PUBLISHED))
def test_logits_of_every_architecture_agree_at_its_own_size(architecture):
    _check_logits(architecture, published(architecture).image_size)


def test_every_layer_agrees():
    rows = compare("resnet18", random_reference("resnet18"), image_size=96)
    names = [row.name for row in rows]
    # 20 convolutions, 20 normalizations, 8 blocks, pooling and the head.
    assert len(set(names)) == len(names) == 50
    assert names[0] == "conv1"
    assert names[-2:] == ["(pooled)", "fc"]
    assert {"bn1", "layer1.0", "layer2.0.downsample.1", "layer4.1"} < set(names)
    assert rows[0].shape == (2, 48, 48, 64)
    assert max(row.relative for row in rows) <= TOLERANCE


def test_a_wrong_layer_shows_where_it_is():
    """The comparison can fail: it shows the first module that differs."""
    reference = random_reference("resnet18")
    norm = reference.get_submodule("layer3.0.bn1")
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.eps = 0.1
    rows = compare("resnet18", reference, image_size=64)
    wrong = [row.name for row in rows if row.relative > TOLERANCE]
    assert wrong[0] == "layer3.0.bn1"
    assert wrong[-1] == "fc"


def test_random_references_have_statistics_that_matter():
    """A network that ignored means or variances would not pass."""
    reference = random_reference("resnet18")
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = reference(images)
        for buffer in ("running_mean", "running_var"):
            norm = reference.get_submodule("layer4.1.bn2")
            kept = getattr(norm, buffer).clone()
            getattr(norm, buffer).fill_(1)
            change = (reference(images) - logits).abs().max() / logits.abs().max()
            assert change > 100 * TOLERANCE
            getattr(norm, buffer).copy_(kept)


def test_the_real_checkpoint_agrees(test_data):
    path = test_data.parent / "weights" / "resnet18-imagenet-partial.pth"
    tensors = read_checkpoint(path).tensors
    rows = compare("resnet18", loaded_reference("resnet18", tensors), image_size=112)
    assert rows[-1].shape == (2, 1000)
    assert max(row.relative for row in rows) <= TOLERANCE
