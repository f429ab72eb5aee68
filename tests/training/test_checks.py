"""What is told of a training before it begins, with torch as the judge of BatchNorm."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from fixtures.marks import FIRST_OF_FAMILIES, slow_but
from flax import nnx

from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.layers.normalization import BatchNorm, OneValuePerChannel
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.runtime.sharding import data_mesh
from jaxmed.strategies import create_strategy
from jaxmed.training.checks import check_batches, check_shapes, prepare_training
from jaxmed.training.config import TrainingConfig
from jaxmed.training.fit import fit
from jaxmed.training.lr_finder.sweep import find_learning_rates


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 3), (2, 1, 1, 3), (1, 2, 1, 3)])
def test_batches_of_one_value_are_refused_where_torch_refuses_them(shape):
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours, values = BatchNorm(3), images.reshape(-1, 3)
    ours.training = True
    theirs = torch.nn.BatchNorm1d(3)
    try:
        expected = theirs(torch.from_numpy(values)).detach().numpy()
    except ValueError:
        with pytest.raises(OneValuePerChannel):
            ours(images)
        # In eval mode both take it, and another replica may have more of them.
        ours.training = False
        ours(images)
    else:
        np.testing.assert_allclose(
            np.asarray(ours(images)).reshape(-1, 3), expected, atol=1e-5
        )


def count_of(data, images):
    return dataclasses.replace(data, train=data.train.take(np.arange(images)))


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=3)


@pytest.mark.parametrize(
    ("images", "settings", "words"),
    [
        (30, {"batch_size": 1}, "Its batches have one image"),
        (30, {"batch_size": 29}, r"has one image \(30 in batches of 29\)"),
        (30, {"batch_size": 1, "accumulate": 8}, "Its batches have one image"),
        (25, {"batch_size": 8, "accumulate": 2}, r"one image \(25 in batches of 8\)"),
    ],
)
def test_a_batch_of_one_value_is_refused_before_training(
    model, quarters, images, settings, words
):
    before = jax.device_get(split(model).stats)
    data = count_of(quarters, images)
    with pytest.raises(InputError, match=words):
        fit(model, data, "full", **settings)
    for path, array in split(model).stats.items():
        np.testing.assert_array_equal(array, before[path])


@pytest.mark.parametrize(
    ("strategy", "options", "size", "batch"),
    [
        ("frozen", {}, 12, 1),  # no layer is trained
        ("full", {"batch_norm": "eval"}, 12, 1),
        ("full", {}, 64, 1),  # the map has four pixels
        ("full", {}, 12, 28),  # the last batch has two images
    ],
)
def test_other_batches_are_taken(model, strategy, options, size, batch):
    made = create_strategy(strategy, model, **options)
    preprocessing = Preprocessing(image_size=size)
    check_shapes(model, made, preprocessing, images=30, batch_size=batch)


def test_the_phase_that_trains_is_named_and_updating_statistics_count(model):
    preprocessing = Preprocessing(image_size=12)
    for name, phase in (("two_phase", "all"), ("frozen", "head")):
        options = {"batch_norm": "train"} if name == "frozen" else {}
        made = create_strategy(name, model, **options)
        with pytest.raises(InputError, match=f"Phase '{phase}' trains BatchNorm"):
            check_shapes(model, made, preprocessing, images=29, batch_size=28)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("vgg11", 32), ("vgg11_bn", 32), ("densenet121", 29), ("convnext_tiny", 32),
        ("inception_v3", 75), ("resnet18", 1), ("mobilenet_v2", 1),
        ("efficientnet_b0", 1),
    ],
)  # fmt: skip
def test_the_smallest_images_of_every_family(name, smallest, monkeypatch):
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 8)
    model = create_model(name, num_classes=2)
    made = create_strategy("frozen", model)

    def check(size):
        preprocessing = Preprocessing(image_size=size)
        check_shapes(model, made, preprocessing, images=4, batch_size=4)

    check(smallest)
    if smallest > 1:
        with pytest.raises(InputError, match=f"at least {smallest}×{smallest} pixels"):
            check(smallest - 1)


def test_other_channels_than_the_models_are_refused(model, quarters):
    gray = Preprocessing(image_size=12, channels=1, mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match="gives 1 channels, and the model takes 3"):
        fit(model, quarters, "full", preprocessing=gray)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "expected"),
    [
        (8, 2, (8, 2)), (30, 1, (30, 1)), (31, 1, (30, 1)), (10**9, 1, (30, 1)),
        (8, 4, (8, 4)), (8, 5, (8, 4)), (8, 10**9, (8, 4)), (40, 7, (30, 1)),
        (29, 3, (29, 2)),
    ],
)  # fmt: skip
def test_batches_beyond_the_data_are_cut(
    new_tiny, quarters, batch_size, accumulate, expected
):
    assert check_batches(new_tiny(), quarters, batch_size, accumulate) == expected


@pytest.mark.parametrize("settings", [{"batch_size": 10**9}, {"accumulate": 10**9}])
def test_batches_beyond_the_data_train_as_those_of_all_of_it(
    new_tiny, quarters, settings
):
    wanted = {"batch_size": 30} if "batch_size" in settings else {"accumulate": 4}
    plain = {"batch_size": 8} | wanted
    expected = fit(new_tiny(), quarters, "full", **plain).history
    found = fit(new_tiny(), quarters, "full", **{"batch_size": 8} | settings).history
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["train_loss"] == theirs["train_loss"]
        assert (ours["step"], ours["val_loss"]) == (theirs["step"], theirs["val_loss"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "resnet18"}, r"model must be a jaxmed.models.classifier.Classifier"),
        ({"data": "medmnist:bloodmnist"}, r"data must be a .*Dataset, got 'medmnist"),
        ({"strategy": {"name": "full"}}, "strategy must be a name, a jaxmed.strateg"),
        ({"strategy": lambda model: 3}, "function of the model.*which returned 3"),
        ({"batch_size": "32"}, "batch_size must be a whole number, got '32'"),
        ({"batch_size": 8.0}, r"batch_size must be a whole number, got 8\.0"),
        ({"accumulate": None}, "accumulate must be a whole number, got None"),
        ({"seed": 1.5}, r"seed must be a whole number, got 1\.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"ema": "0.9"}, r"ema must be a number, got '0\.9'"),
        ({"ema": float("nan")}, "ema must be a finite number, got nan"),
        ({"loss": "focall"}, "Unknown loss 'focall'. Did you mean 'focal'"),
        ({"loss": 3}, "Loss or its name, got 3"),
        ({"augmentation": "x_ray"}, "Did you mean 'xray'"),
        ({"augmentation": ["xray"]}, r"Augmentation or its name, got \['xray'\]"),
        (
            {"mixing": 0.2},
            r"mixing must be a jaxmed.data.transforms.mixup.Mixing, got 0\.2",
        ),
        ({"cache": "of"}, "Unknown cache mode 'of'"),
        ({"cache": False}, "CacheSettings or its name, got False"),
        ({"select": None}, "select must be a text, got None"),
        ({"preprocessing": 224}, "Preprocessing, got 224"),
    ],
)
def test_arguments_of_another_type_are_sentences(new_tiny, quarters, arguments, words):
    given = {"model": new_tiny(), "data": quarters, "strategy": "full"} | arguments
    with pytest.raises(InputError, match=words):
        fit(**given)
    if arguments.keys() & {"loss", "augmentation", "model", "mixing", "strategy"}:
        with pytest.raises(InputError, match=words):
            find_learning_rates(**given)


def test_names_are_taken_for_objects(new_tiny, quarters):
    settings = {"loss": "focal", "augmentation": "dermoscopy", "cache": "off"}
    named = fit(new_tiny(), quarters, "frozen", mixing=Mixing(), **settings).history
    from jaxmed.data import create_augmentation
    from jaxmed.training.config import CacheSettings
    from jaxmed.training.loss import Loss

    made = fit(
        new_tiny(), quarters, "frozen",
        loss=Loss(name="focal"), augmentation=create_augmentation("dermoscopy"),
        cache=CacheSettings(mode="off"),
    ).history  # fmt: skip
    columns = ("train_loss", "val_loss", "val_auroc")
    for ours, theirs in zip(named, made, strict=True):
        assert [ours[c] for c in columns] == [theirs[c] for c in columns]


@pytest.mark.parametrize("name", slow_but(FIRST_OF_FAMILIES[:1], FIRST_OF_FAMILIES))
def test_abstract_models_are_checked_as_real_ones(name, quarters):
    """A run checks all its arms before it builds the first one."""
    model = nnx.eval_shape(lambda: create_model(name, num_classes=3))
    small = dataclasses.replace(quarters, image_size=96)
    strategy, _ = prepare_training(
        model, small, "two_phase", TrainingConfig(), mesh=data_mesh()
    )
    assert [phase.name for phase in strategy.phases] == ["head", "all"]
