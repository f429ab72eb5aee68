"""The table of published weights against torchvision's enums."""

import math

import pytest
import torch
from torchvision.models import get_model_weights

from jaxmed.errors import InputError
from jaxmed.models.registry import ARCHITECTURES
from jaxmed_convert.weights.torchvision import (
    PUBLISHED,
    address,
    download_weights,
    hash_in_name,
    pool_of,
    published,
    resolve,
    scale,
)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_the_table_is_torchvisions(architecture):
    row = PUBLISHED[architecture]
    enum = get_model_weights(architecture)
    assert list(row.top1) == [member.name for member in enum]
    assert resolve(architecture, "imagenet") == enum["DEFAULT"].name
    for member in enum:
        top1 = member.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert row.top1[member.name] == (None if math.isnan(top1) else top1)
        assert row.parameters == member.meta["num_params"]
        transforms = member.transforms()
        assert [row.image_size] == transforms.crop_size
        assert scale(architecture, member.name) == (
            tuple(transforms.mean),
            tuple(transforms.std),
        )
        assert resolve(architecture, member.name) == member.name
        assert address(architecture, member.name) == member.url


def test_only_weights_without_accuracy_are_no_classifier():
    without = [
        (name, weights)
        for name, row in PUBLISHED.items()
        for weights in row.top1
        if pool_of(name, weights) != "own"
    ]
    assert without == [("vgg16", "IMAGENET1K_FEATURES")]
    assert all(pool_of("vgg16", w) == "own" for w in ("imagenet", "none", "file:a.pth"))


def test_every_architecture_but_our_own_is_in_the_table():
    assert set(ARCHITECTURES) - set(PUBLISHED) == {"resnet10_narrow"}


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_every_address_ends_in_a_hash_that_a_download_checks(architecture):
    """Names like efficientnet_b0_rwightman-7f5810bc.pth are no exception."""
    for weights in PUBLISHED[architecture].top1:
        name = address(architecture, weights).rpartition("/")[2]
        # What torch.hub takes as the hash.
        expected = torch.hub.HASH_REGEX.search(name)
        assert expected is not None
        assert hash_in_name(name) == expected[1]
        assert len(expected[1]) == 8


def test_unknown_names_are_sentences():
    with pytest.raises(InputError, match="no weights for 'resnet10_narrow'"):
        published("resnet10_narrow")
    with pytest.raises(InputError, match="Did you mean 'IMAGENET1K_V1'"):
        resolve("resnet18", "IMAGENET1K_V2")
    with pytest.raises(InputError, match=r"Known: IMAGENET1K_V1, imagenet\."):
        resolve("resnet18", "what")


def test_a_name_without_a_hash_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"small\.pth does not end in the start"):
        download_weights("http://127.0.0.1:9/small.pth", tmp_path / "downloads")
    assert list(tmp_path.iterdir()) == []
