"""The table of published weights against torchvision's enums."""

import pytest
import torch
from torchvision.models import get_model_weights

from jaxmed.errors import InputError
from jaxmed.models.zoo import ARCHITECTURES
from jaxmed_convert.downloads import promised_hash
from jaxmed_convert.published import PUBLISHED, address, published, resolve


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_the_table_is_torchvisions(architecture):
    row = PUBLISHED[architecture]
    enum = get_model_weights(architecture)
    # vgg16's IMAGENET1K_FEATURES has no accuracy; published.py says why it is not here.
    enum_names = [m.name for m in enum if m.name != "IMAGENET1K_FEATURES"]
    assert list(row.top1) == enum_names
    assert resolve(architecture, "imagenet") == enum["DEFAULT"].name
    for member in (enum[name] for name in enum_names):
        assert row.parameters == member.meta["num_params"]
        assert row.top1[member.name] == member.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert row.image_size == member.transforms.keywords["crop_size"]
        assert resolve(architecture, member.name) == member.name
        assert address(architecture, member.name) == member.url


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
        assert promised_hash(name) == expected[1]
        assert len(expected[1]) == 8


def test_unknown_names_are_sentences():
    with pytest.raises(InputError, match="no weights for 'resnet10_narrow'"):
        published("resnet10_narrow")
    with pytest.raises(InputError, match="Did you mean 'IMAGENET1K_V1'"):
        resolve("resnet18", "IMAGENET1K_V2")
    with pytest.raises(InputError, match=r"Known: IMAGENET1K_V1, imagenet\."):
        resolve("resnet18", "what")
