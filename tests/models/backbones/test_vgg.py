"""VGG's pooling and initial weights against torch's, and what it can do without."""

import numpy as np
import pytest
import torch
from flax import nnx
from torchvision.models import vgg11_bn

from jaxmed.models.backbone import run_stages
from jaxmed.models.backbones.vgg import VGG, adaptive_average_pool, build
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model

SIZES = [(7, 7), (1, 1), (2, 3), (7, 5), (8, 7), (14, 21), (15, 6), (9, 31)]


@pytest.mark.parametrize("size", SIZES)
def test_adaptive_pooling_is_torchs(size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3), np.float32)
    pool = torch.nn.AdaptiveAvgPool2d(7)
    expected = pool(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    ours = adaptive_average_pool(x, 7)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_average_pooling_leaves_the_hidden_layers_out():
    model = create_model("vgg11", num_classes=2, pool="average")
    assert model.pool == "average"
    assert not [path for path in split(model).params if "classifier" in path]
    assert list(model.stages) == [*(f"block{i}" for i in range(1, 6)), "head"]
    assert model.head.out.kernel.shape == (512, 2)
    features = np.random.default_rng(0).standard_normal((2, 3, 4, 512), np.float32)
    np.testing.assert_allclose(
        model.backbone.pool(features), features.mean((1, 2)), rtol=1e-5, atol=1e-6
    )
    # 9.2 million parameters of torchvision's 132.9.
    assert sum(a.size for p, a in split(model).params.items() if "head" not in p) == (
        9_220_480
    )


def test_other_families_average_anyway():
    model = create_model("resnet10_narrow", num_classes=2, pool="average")
    assert model.pool == "own"


@pytest.fixture
def narrow(monkeypatch):
    """A VGG with torchvision's structure and few units."""
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 50)
    monkeypatch.setattr("jaxmed.models.backbones.vgg.WIDTHS", (2, 2, 2, 2, 3))
    return build("vgg11", in_channels=3, rngs=nnx.Rngs(0))


def test_hidden_layers_drop_units_only_with_a_random_stream(narrow: VGG):
    features = np.ones((400, 7, 7, 3), np.float32)
    narrow.classifier[3].kernel[...] = np.eye(50, dtype=np.float32)
    narrow.classifier[3].bias[...] = np.ones(50, np.float32)
    plain = np.asarray(narrow.pool(features))
    assert np.array_equal(plain, narrow.pool(features))
    dropped = np.asarray(narrow.pool(features, rngs=nnx.Rngs(dropout=0)))
    # Half of the second layer's units are 0; the others hold (1 + 2 h) or 1, times 2.
    assert (dropped == 0).mean() == pytest.approx(0.5, abs=0.02)
    first = plain[0] - 1
    live = dropped[dropped != 0]
    possible = np.concatenate([[2.0], 2 * (1 + 2 * first)])
    assert np.abs(live[:, None] - possible).min(axis=1).max() < 1e-5
    np.testing.assert_allclose(dropped.mean(0), plain[0], atol=0.3)


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return vgg11_bn().state_dict()


def _check_layer(reference, path, kernel, bias):
    other = reference[f"{path}.weight"].numpy()
    assert np.std(kernel) == pytest.approx(other.std(), rel=0.05)
    assert abs(np.mean(kernel)) < 0.1 * np.std(kernel)
    assert not reference[f"{path}.bias"].any()
    assert not np.any(bias)


def test_convolutions_start_as_torchvisions(reference):
    model = create_model("vgg11_bn", num_classes=2, pool="average")
    params = split(model).params
    for path in ("features.0", "features.8", "features.25"):
        kernel, bias = (params[f"backbone.{path}.{n}"] for n in ("kernel", "bias"))
        _check_layer(reference, path, kernel, bias)


def test_hidden_layers_start_as_torchvisions(reference, narrow):
    params = split(narrow).params
    for path in ("classifier.0", "classifier.3"):
        kernel, bias = (params[f"{path}.{n}"] for n in ("kernel", "bias"))
        _check_layer(reference, path, kernel, bias)


def test_masked_rows_do_not_change_the_statistics(narrow):
    def mean(images, mask=None):
        model = build("vgg11_bn", in_channels=3, rngs=nnx.Rngs(0))
        norm = model.features[1]
        norm.training = True
        run_stages(model, images, mask=mask)
        return np.asarray(norm.mean[...])

    images = np.random.default_rng(0).standard_normal((3, 32, 32, 3), np.float32)
    masked = mean(images, np.array([1, 1, 0], np.float32))
    np.testing.assert_allclose(masked, mean(images[:2]), rtol=1e-5, atol=1e-7)
    assert not np.allclose(masked, mean(images))
