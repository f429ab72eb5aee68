"""What models get unless told otherwise, against torchvision's own transforms."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from jaxmed.errors import InputError
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.models.registry import ARCHITECTURES, create_model


def empty(architecture, in_channels=3):
    """A model's name, channels and scale, without the rest of it."""
    nothing: Any = None
    return Classifier(architecture, nothing, nothing, in_channels=in_channels)


@pytest.mark.parametrize(
    "name", sorted(set(ARCHITECTURES) & set(torchvision.models.list_models()))
)
def test_normalization_is_that_of_torchvisions_weights(name):
    weights = torchvision.models.get_model_weights(name).DEFAULT
    theirs = weights.transforms()
    ours = preprocessing_of(empty(name), 32)
    assert ours.mean == tuple(theirs.mean)
    assert ours.std == tuple(theirs.std)


def test_normalization_is_the_models_own_where_it_was_set():
    model = empty("resnet18")
    model.mean, model.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    ours = preprocessing_of(model, 32)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected = torchvision.transforms.functional.normalize(
        torchvision.transforms.functional.to_tensor(image[0]), model.mean, model.std
    )
    ours_first = np.asarray(ours(image))[0].transpose(2, 0, 1)
    np.testing.assert_allclose(ours_first, expected, atol=1e-6)


def test_gray_models_get_one_channel():
    model = create_model("resnet10_narrow", num_classes=2, in_channels=1)
    gray = preprocessing_of(model, 64)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8)
    expected = torchvision.transforms.functional.normalize(
        torch.from_numpy(image[0, ..., 0])[None] / 255, [0.485], [0.229]
    )
    np.testing.assert_allclose(gray(image)[0, ..., 0], expected[0], atol=1e-6)


def test_other_channels_are_refused():
    with pytest.raises(InputError, match="takes 4 channels"):
        preprocessing_of(empty("resnet18", 4), 64)
