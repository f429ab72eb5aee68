"""A network run in two parts is the network run at once."""

import jax
import numpy as np
import pytest
from fixtures.marks import FIRST_OF_FAMILIES
from flax import nnx

from jaxmed.models.backbones import vit
from jaxmed.models.registry import create_model

IMAGES = np.zeros((2, 100, 107, 3), np.float32)


@pytest.mark.parametrize("architecture", FIRST_OF_FAMILIES)
def test_two_parts_compute_what_the_whole_computes(architecture):
    """The programs are compared, equation by equation: not a bit may differ."""
    model = nnx.eval_shape(
        lambda: create_model(architecture, num_classes=3, head="dropout")
    )
    definition, state = nnx.split(model)
    # Patches have to fill the images.
    vits = architecture in vit.CONFIGURATIONS
    images = np.zeros((2, 48, 64, 3), np.float32) if vits else IMAGES

    def program(compute):
        def run(state, images):
            return compute(nnx.merge(definition, state, copy=True), images)

        return str(jax.make_jaxpr(run)(state, images))

    whole = program(lambda model, images: model(images))
    stages = list(model.stages)
    for start_stage in (stages[1], stages[-2], "head"):

        def in_parts(model, images, start_stage=start_stage):
            return model(
                model.stage_input(start_stage, images), start_stage=start_stage
            )

        assert program(in_parts) == whole, start_stage


def test_every_stage_of_a_densenet_ends_with_its_transition():
    def shapes(images):
        model = create_model("densenet121", num_classes=3)
        return [model.features(images, stop=stage) for stage in list(model.stages)[:-1]]

    maps = [found.shape for found in nnx.eval_shape(shapes, IMAGES)]
    assert maps == [
        (2, 100, 107, 3),
        (2, 25, 27, 64),
        (2, 12, 13, 128),
        (2, 6, 6, 256),
        (2, 3, 3, 512),
    ]


def test_a_part_can_start_and_stop_anywhere():
    model = create_model("resnet10_narrow", num_classes=3)
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
    middle = model.features(images, stop="layer2")
    after = model.features(middle, start="layer2", stop="layer4")
    np.testing.assert_array_equal(after, model.features(images, stop="layer4"))
    assert model.features(after, start="layer4", stop="layer4") is after
