"""The stem of a network with one channel, by what the strategy does to it."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmed.config.sections import build_config
from jaxmed.data import load_dataset
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.prepare import check_arm, prepare_arm
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import to_torch

STEM = "backbone.conv1.kernel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights for RGB images, and a few gray images."""
    folder = tmp_path_factory.mktemp("stem")
    model = create_model("resnet10_narrow", num_classes=2, seed=3)
    torch.save(to_torch(model), folder / "rgb.pth")
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = np.arange(8 * 32 * 32).reshape(8, 32, 32) % 251
        arrays[f"{name}_images"] = arrays[f"{name}_images"].astype(np.uint8)
        arrays[f"{name}_labels"] = np.arange(8)[:, None] % 2
    np.savez(folder / "gray.npz", **arrays)
    return folder


def config_of(folder, strategy="frozen", options=None, **model):
    model = {"backbone": "resnet10_narrow", "in_channels": 1} | model
    model.setdefault("weights", f"file:{folder}/rgb.pth")
    table = {
        "name": "stem",
        "data": {"source": f"npz:{folder}/gray.npz", "image_size": 32},
        "model": model,
        "train": {"strategy": strategy, "options": options or {}},
    }
    return build_config(table, "here")


def prepared(folder, config):
    check_arm(config, "main")
    data = load_dataset(config.data.source, image_size=32)
    return prepare_arm(config, data, seed=0, out=folder)


def kind_of(model):
    rgb = split(create_model("resnet10_narrow", num_classes=2, seed=3)).params[STEM]
    rgb = np.asarray(rgb, np.float64)
    ours = np.asarray(split(model).params[STEM], np.float64)
    for name, expected in (("sum", rgb.sum(2)), ("mean", rgb.mean(2))):
        if np.allclose(ours[:, :, 0], expected, rtol=1e-5, atol=1e-7):
            return name
    return "neither"


@pytest.mark.parametrize(
    ("strategy", "options", "kind"),
    [
        ("frozen", {}, "sum"),
        # Its statistics are the batches': then both do, and the sum is right as well.
        ("frozen", {"batch_norm": "train"}, "sum"),
        ("two_phase", {}, "sum"),
        ("linear_probe_then_finetune", {}, "sum"),
        ("partial", {}, "sum"),
        ("gradual_unfreezing", {}, "sum"),
        ("bias_only", {}, "sum"),
        ("norm_only", {}, "sum"),
        ("full", {}, "mean"),
        ("full", {"batch_norm": "eval"}, "sum"),
        # A ResNet's stem has no rate of its own there.
        ("discriminative", {}, "sum"),
        ("backbone_and_head", {}, "mean"),
        ("layerwise_decay", {}, "mean"),
    ],
)
def test_a_frozen_stem_is_the_sum_and_a_trained_one_the_mean(
    folder, strategy, options, kind
):
    found = prepared(folder, config_of(folder, strategy, options))
    assert kind_of(found.model) == kind
    assert f"takes 1 channels: the {kind} over RGB." in found.start.note
    assert f"The {kind}, because phase" in found.start.note


@pytest.mark.parametrize("strategy", ["frozen", "full"])
@pytest.mark.parametrize("stem", ["sum", "mean"])
def test_a_recipe_can_choose(folder, strategy, stem):
    found = prepared(folder, config_of(folder, strategy, stem=stem))
    assert kind_of(found.model) == stem
    assert "because" not in found.start.note


def test_the_sum_keeps_what_a_frozen_network_makes_of_gray_images(folder):
    """Where all channels are normalized alike, up to rounding."""
    gray = prepared(folder, config_of(folder, mean=[0.5], std=[0.5]))
    three = config_of(folder, in_channels=3, mean=[0.5] * 3, std=[0.5] * 3)
    rgb = prepared(folder, three)
    data = load_dataset(f"npz:{folder}/gray.npz", image_size=32)
    images = jnp.asarray(data.test.images)
    ours = gray.model.features(gray.training.preprocessing(images))
    theirs = rgb.model.features(rgb.training.preprocessing(images))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [{"in_channels": 3}, {"weights": "none"}, {"weights": "run:some/run"}],
    ids=["rgb", "random", "run"],
)
def test_a_stem_without_rgb_weights_to_make_it_of_is_a_sentence(folder, model):
    with pytest.raises(InputError, match=r"model.stem is sum, which is for pretrained"):
        check_arm(config_of(folder, stem="sum", **model), "main")
