"""The distance of images from those behind a network's BatchNorm statistics."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.distributions import Normal, kl_divergence

import jaxmed_convert
from jaxmed.advisor.domain_distance import (
    SIMILAR,
    divergence,
    domain_distance,
    early_norms,
    input_statistics,
    statistics_distance,
)
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.layers.normalization import BatchNorm, norm_paths, set_training_norms
from jaxmed.models.parameters import load, split
from jaxmed.models.registry import create_model


def draw(seed, count=40, high=256):
    return np.random.default_rng(seed).integers(0, high, (count, 40, 40, 3), np.uint8)


def crops(photo, seed, side=224, count=24):
    """Random squares of a photograph that comes with scikit-learn."""
    picture = Image.fromarray(load_sample_image(photo))
    rng, squares = np.random.default_rng(seed), []
    for extent in rng.integers(160, 427, count):
        left, top = rng.integers(0, [641 - extent, 428 - extent])
        box = (left, top, left + extent, top + extent)
        squares.append(np.asarray(picture.resize((side, side), box=box)))
    return np.stack(squares)


@pytest.fixture(scope="module")
def seen_by():
    """A narrow ResNet whose statistics were all taken from `draw(0)`."""
    model = create_model("resnet10_narrow", num_classes=2)
    preprocessing = preprocessing_of(model, 40)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            module.momentum = 1.0  # The last batch alone counts.
    set_training_norms(model, norm_paths(model))
    model(preprocessing(jnp.asarray(draw(0))))
    set_training_norms(model, ())
    return model


def distance(model, images, size=40):
    return domain_distance(model, images, preprocessing=preprocessing_of(model, size))


def test_the_images_behind_the_statistics_are_at_no_distance(seen_by):
    assert distance(seen_by, draw(0)) < 1e-5
    assert distance(seen_by, draw(1)) < SIMILAR / 10
    assert distance(seen_by, draw(1, high=60)) > SIMILAR


def test_the_network_and_its_modes_stay_as_they_are(seen_by):
    set_training_norms(seen_by, ["backbone.bn1"])
    before = split(seen_by)
    found = distance(seen_by, draw(0))
    after = split(seen_by)
    set_training_norms(seen_by, ())
    assert found < 1e-5, "in eval mode whatever mode the layers are in"
    assert before.definition == after.definition
    for old, new in zip(before[1:], after[1:], strict=True):
        assert all(np.array_equal(old[path], new[path]) for path in old)


def test_the_first_layers_statistics_are_those_of_its_input(seen_by):
    images = draw(2, count=37)  # A last batch that is not full.
    preprocessing = preprocessing_of(seen_by, 40)
    entering = seen_by.backbone.conv1(preprocessing(jnp.asarray(images)))
    seen = input_statistics(seen_by, images, preprocessing=preprocessing)
    assert seen.keys() == {
        f"{path}.{name}" for path in early_norms(seen_by) for name in ("mean", "var")
    }
    expected = np.asarray(entering, np.float64)
    np.testing.assert_allclose(
        seen["backbone.bn1.mean"], expected.mean((0, 1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        seen["backbone.bn1.var"], expected.var((0, 1, 2)), rtol=1e-4
    )


def test_the_divergence_is_torchs_symmetrized():
    import torch

    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(2, 50)), rng.uniform(0.1, 3, (2, 50))
    p, q = (
        Normal(torch.tensor(mean), torch.tensor(var).sqrt())
        for mean, var in zip(means, variances, strict=True)
    )
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).numpy() / 2
    ours = divergence(means[0], variances[0], means[1], variances[1], epsilon=0)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_the_distance_is_symmetric_and_that_of_equal_statistics_is_zero(seen_by):
    preprocessing = preprocessing_of(seen_by, 40)
    one, other = (
        input_statistics(seen_by, draw(3, high=high), preprocessing=preprocessing)
        for high in (256, 100)
    )
    assert statistics_distance(one, one) == 0
    assert statistics_distance(one, other) > 0
    assert statistics_distance(one, other) == pytest.approx(
        statistics_distance(other, one), rel=1e-6
    )


def test_early_layers():
    names = early_norms(create_model("resnet10_narrow", num_classes=2))
    assert names == (
        "backbone.bn1",
        "backbone.layer1.0.bn1",
        "backbone.layer1.0.bn2",
        "backbone.layer2.0.bn1",
        "backbone.layer2.0.bn2",
        "backbone.layer2.0.downsample.1",
    )


def test_a_network_without_batch_normalization_tells_nothing():
    model = create_model("vgg11", num_classes=2, pool="average")
    assert distance(model, draw(0)) is None


@pytest.fixture(scope="module")
def pretrained(test_data, tmp_path_factory):
    path = test_data.parent / "weights" / "resnet18-imagenet-partial.pth"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = create_model("resnet18", num_classes=2)
    cache = tmp_path_factory.mktemp("cache")
    jaxmed_convert.initialize(model, f"file:{path}", cache=cache)
    return model


def xrays(test_data):
    folder = test_data / "chest_xray" / "train"
    files = sorted(folder.glob("*/*.jpeg"))[::100]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def test_photographs_are_nearer_than_noise(pretrained):
    names = ("china.jpg", "flower.jpg")
    photographs = np.concatenate([crops(name, 0, side=96) for name in names])
    noise = np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), np.uint8)
    assert distance(pretrained, photographs, 96) < distance(pretrained, noise, 96)


@pytest.mark.slow
def test_the_boundary_parts_photographs_from_medical_images(pretrained, test_data):
    """With statistics of photographs, as no ImageNet statistics are at hand."""
    preprocessing = preprocessing_of(pretrained, 224)
    small = np.load(test_data / "medmnist" / "breastmnist.npz")["train_images"][:24]
    sets = {
        "china": crops("china.jpg", 0),
        "flower": crops("flower.jpg", 1),
        "chest X-rays": xrays(test_data),
        "BreastMNIST": small[..., None],
    }
    seen = {
        name: input_statistics(pretrained, images, preprocessing=preprocessing)
        for name, images in sets.items()
    }
    reference = {
        key: (seen["china"][key] + seen["flower"][key]) / 2 for key in seen["china"]
    }
    near = {n: statistics_distance(seen[n], reference) for n in sets}
    assert max(near["china"], near["flower"]) < SIMILAR
    assert statistics_distance(seen["china"], seen["flower"]) < SIMILAR
    assert SIMILAR < near["chest X-rays"] < near["BreastMNIST"]


def test_the_files_statistics_are_those_of_the_images_they_were_rebuilt_from(
    pretrained, test_data
):
    """The partial weights' BatchNorm was rebuilt on chest X-rays at 224 pixels."""
    assert distance(pretrained, xrays(test_data), 224) < SIMILAR / 10
    assert distance(pretrained, crops("china.jpg", 0), 224) > SIMILAR


def test_statistics_that_move_are_noticed(seen_by):
    model = create_model("resnet10_narrow", num_classes=2)
    parts = split(seen_by)
    moved = {path: array * 3 for path, array in parts.stats.items()}
    load(model, parts.params | moved)
    assert distance(model, draw(0)) > SIMILAR
