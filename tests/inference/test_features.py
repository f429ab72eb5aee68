"""Features and probabilities of batches of any length."""

import numpy as np
import pytest
from fixtures.marks import slow

from jaxmed.data.images.resizing import Resizing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.features import (
    Network,
    compute_features,
    compute_layer_means,
    layer_widths,
)
from jaxmed.inference.forward import eval_parts, predict
from jaxmed.models.registry import create_model

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 36, 36, 3), dtype=np.uint8)
CROP = Preprocessing(image_size=32, resizing=Resizing(mode="crop"))


@pytest.mark.parametrize("views", [slow("none"), "ten_crop"])
@pytest.mark.parametrize(("task", "logits"), [("binary", 1), ("multilabel", 3)])
def test_probabilities_are_those_of_predict(views, task, logits):
    model = create_model("resnet10_narrow", num_classes=logits)
    network = Network(model, CROP, task, views=views)
    expected = predict(model, IMAGES, preprocessing=CROP, task=task, views=views)
    for count, rows in ((7, None), (3, 8)):
        probs, features = network(IMAGES[:count], rows)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(probs, expected[:count], atol=1e-6)
        # Of the stem and of four stages.
        assert features.shape == (count, 16 + 16 + 32 + 64 + 128)


def test_features_are_what_enters_the_head(new_tiny, quarters):
    model, prepare = new_tiny(), Preprocessing(image_size=12)
    found = compute_features(model, quarters.val, preprocessing=prepare)
    eval_parts(model)
    expected = model.stage_input("head", prepare(quarters.val.images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_are_means_over_the_positions_of_each_stages_map(new_tiny, quarters):
    model, prepare = new_tiny(), Preprocessing(image_size=12)
    found = compute_layer_means(model, quarters.val, preprocessing=prepare)
    eval_parts(model)
    images = prepare(quarters.val.images)
    maps = [model.stage_input(name, images) for name in [*model.stages][1:-1]]
    maps.append(model.features(images))
    expected = [np.mean(one, axis=(1, 2)) for one in maps]
    np.testing.assert_allclose(
        found, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5
    )
    assert layer_widths(model, prepare) == [one.shape[1] for one in expected]
