"""The same networks in both worlds, and images that they see something in."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.resnet import BasicBlock

from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch

CLASSES = 5


def narrow_resnet(num_classes: int) -> torch.nn.Module:
    """`resnet10_narrow` in torchvision's words."""
    model = torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes)
    model.conv1 = torch.nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(16)
    model.layer1 = torch.nn.Sequential(BasicBlock(16, 16))
    for i, width in enumerate((16, 32, 64), start=2):
        conv = torch.nn.Conv2d(width, 2 * width, 1, stride=2, bias=False)
        shrink = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(2 * width))
        block = BasicBlock(width, 2 * width, stride=2, downsample=shrink)
        setattr(model, f"layer{i}", torch.nn.Sequential(block))
    model.fc = torch.nn.Linear(128, num_classes)
    return model


def shake(model: torch.nn.Module) -> None:
    """Draws BatchNorm's numbers at random, and lets no module work in place.

    In place it would write over what a hook on the layer before it has seen.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(layer.weight, 1, 0.2)
            torch.nn.init.normal_(layer.bias, 0, 0.2)
        if hasattr(layer, "inplace"):
            layer.inplace = False


@pytest.fixture(scope="session")
def narrow():
    """`resnet10_narrow` with random weights and statistics: torch's and ours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = narrow_resnet(CLASSES).eval()
        shake(reference)
        # Weights that tell the classes apart, and leave all of them possible.
        torch.nn.init.normal_(reference.fc.weight, 0, 0.2)
    model = create_model("resnet10_narrow", num_classes=CLASSES)
    from_torch(model, reference.state_dict())
    return reference, model


@pytest.fixture(scope="session")
def draw_images():
    def draw(n, size):
        """Images with large structures, unlike noise not all alike to a network."""
        random = np.random.default_rng(size)
        coarse = random.normal(size=(n, 3, 5, 5)).astype(np.float32)
        tensor = torch.nn.functional.interpolate(
            torch.tensor(2 * coarse), size=(size, size), mode="bilinear"
        )
        return tensor, jnp.asarray(tensor.permute(0, 2, 3, 1).numpy())

    return draw
