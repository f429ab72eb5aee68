"""The scale that a classifier carries."""

import pytest
from flax import nnx

from jaxmed.image_stats import IMAGENET, Scale, scale_of
from jaxmed.models.parameters import merge, split
from jaxmed.models.registry import create_model

HALF = Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def build(**options):
    return create_model("resnet10_narrow", num_classes=2, **options)


def test_a_new_model_has_the_scale_of_its_architecture():
    assert (build().mean, build().std) == IMAGENET
    large = nnx.eval_shape(lambda: create_model("efficientnet_v2_l", num_classes=2))
    assert (large.mean, large.std) == scale_of("efficientnet_v2_l") == HALF


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (1, (0.485,), (0.229,)),
        (3, IMAGENET.mean, IMAGENET.std),
        (2, (1.347 / 3,) * 2, (0.678 / 3,) * 2),
        (5, (1.347 / 3,) * 5, (0.678 / 3,) * 5),
    ],
)
def test_the_scale_has_as_many_channels_as_the_images(channels, mean, std):
    model = build(in_channels=channels)
    assert model.mean == pytest.approx(mean)
    assert model.std == pytest.approx(std)


def test_the_scale_is_part_of_the_definition_and_no_parameter():
    model = build()
    before = split(model)
    model.mean, model.std = HALF
    after = split(model)
    assert before.definition != after.definition
    assert hash(after.definition) == hash(split(model).definition)
    assert before.params.keys() == after.params.keys()
    again = merge(after.definition, after.params, after.stats)
    assert (again.mean, again.std) == HALF
