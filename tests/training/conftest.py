"""A network and a data set so small that training them takes a moment."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flax import nnx

from jaxmed.data.dataset import Dataset, Split
from jaxmed.models.classifier import Classifier, Head
from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed_convert import to_torch


class TinyBackbone(nnx.Module):
    """Two convolutions, each with BatchNorm and ReLU, and the mean."""

    num_features = 8
    stages = (("stem", ("conv1", "bn1")), ("layer1", ("conv2", "bn2")))

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = convolution(3, 6, 3, stride=2, rngs=rngs)
        self.bn1 = BatchNorm(6)
        self.conv2 = convolution(6, 8, 3, stride=2, rngs=rngs)
        self.bn2 = BatchNorm(8)

    def run_stage(self, stage, x, *, mask=None, rngs=None):
        del rngs
        if stage == "stem":
            return nnx.relu(self.bn1(self.conv1(x), mask=mask))
        return nnx.relu(self.bn2(self.conv2(x), mask=mask))

    def pool(self, features, *, rngs=None):
        del rngs
        return features.mean(axis=(1, 2))


class Twin(torch.nn.Module):
    """The same network in torch."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(6)
        self.conv2 = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, num_classes)

    def forward(self, images):
        x = self.bn1(self.conv1(images)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture(scope="session")
def new_tiny() -> Callable[..., Classifier]:
    """A function that builds the network, each time with the same weights."""

    def build(num_classes: int = 3, *, head: str = "linear") -> Classifier:
        top = Head(
            head, 8, num_classes,
            hidden_features=4, dropout=0.3, rngs=nnx.Rngs(1),
        )  # fmt: skip
        # Conversion spells these names as a ResNet's.
        return Classifier("resnet18", TinyBackbone(nnx.Rngs(0)), top)

    return build


@pytest.fixture(scope="session")
def twin_of() -> Callable[[Classifier], torch.nn.Module]:
    """A function that builds the same network in torch, in double precision."""

    def build(model: Classifier) -> torch.nn.Module:
        twin = Twin(model.head.out.out_features)
        twin.load_state_dict(to_torch(model))
        return twin.double()

    return build


@pytest.fixture(scope="session")
def quarters() -> Dataset:
    """Three classes by the quarter that is bright, in noise; 30 train images."""
    rng = np.random.default_rng(0)

    def draw(name: str, count: int) -> Split:
        labels = np.arange(count) % 3
        images = rng.integers(0, 160, (count, 12, 12, 3))
        for image, label in zip(images, labels, strict=True):
            image[6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += 60
        ids = tuple(f"{name}/{i}" for i in range(count))
        return Split(
            images=images.astype(np.uint8), labels=labels.astype(np.int32), ids=ids
        )

    return Dataset(
        name="quarters",
        source="test",
        task="multiclass",
        class_names=("left", "right", "below"),
        train=draw("train", 30),
        val=draw("val", 25),
        test=draw("test", 6),
        image_size=12,
    )
