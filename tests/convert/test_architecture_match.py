"""The architecture that fits best, found by names and shapes alone."""

import time

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.models.registry import FAMILIES
from jaxmed_convert import from_torch
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.mismatch import best_fit, fit

# DINOv2's networks and timm's of them have tensors of the same names and shapes.
TWINLESS = {"dinov2_vitg14_reg": "vit_large_patch16_224"}
# tf_efficientnet_* have the tensors of efficientnet_*, which is the one named.
LAST = [
    TWINLESS.get(family[-1], family[-1])
    for family in FAMILIES
    if not family[-1].startswith("tf_")
]
# Pairs that differ in few tensors, or only in their shapes.
TWINS = [
    ("resnext101_32x8d", "resnext101_64x4d"),
    ("vgg16", "vgg19"),
    ("vgg11", "vgg11_bn"),
    ("densenet121", "densenet161"),
    ("efficientnet_b1", "efficientnet_b2"),
    ("convnext_tiny", "convnext_base"),
    ("vit_b_16", "vit_l_16"),
]


def _weights(architecture: str) -> dict[str, np.ndarray]:
    wanted = backbone_targets(outline(architecture))
    return {n: np.broadcast_to(np.float32(0), t.shape) for n, t in wanted.items()}


@pytest.mark.parametrize("architecture", LAST)
def test_the_last_of_every_family_is_found(architecture):
    assert best_fit(_weights(architecture)) == (architecture, 1.0)


@pytest.mark.parametrize("pair", TWINS)
def test_twins_are_told_apart(pair):
    for one, other in (pair, pair[::-1]):
        weights = _weights(one)
        assert best_fit(weights) == (one, 1.0)
        assert fit(weights, other) < 0.95


def test_an_incomplete_file_is_recognized():
    weights = _weights("efficientnet_b3")
    kept = {n: a for i, (n, a) in enumerate(weights.items()) if i % 10}
    best, share = best_fit(kept)
    assert best == "efficientnet_b3"
    assert 0.89 < share < 0.91


def test_a_foreign_state_dict_fits_nothing():
    assert best_fit({"embed.weight": np.zeros((9, 9))})[1] == 0
    assert best_fit({})[1] == 0


def test_the_error_names_the_best_fit_in_less_than_5_seconds():
    given = _weights("efficientnet_v2_l")
    model = outline("resnet18")
    outline.cache_clear()
    started = time.process_time()
    with pytest.raises(InputError, match="They fit efficientnet_v2_l best: 100%"):
        from_torch(model, given)
    assert time.process_time() - started < 5
