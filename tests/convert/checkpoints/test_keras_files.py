"""Files that Keras saved, written by Keras."""

import os
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import numpy as np
import pytest
import torch
from torchvision.models import densenet121

import jaxmed_convert
from jaxmed.errors import InputError
from jaxmed.models.registry import create_model
from jaxmed_convert.checkpoints.keras_files import read_keras
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.package_names import KERAS, other_names
from jaxmed_convert.verify.parity import TOLERANCE
from jaxmed_convert.weights.pretrained import prepare

ENDINGS = ("whole.h5", "numbered.weights.h5", "archive.keras")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network in each format."""
    layers = keras.layers
    network = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, use_bias=False, name="conv1_conv"),
            layers.BatchNormalization(name="conv1_bn"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="predictions"),
        ]
    )
    return save_all(network, tmp_path_factory.mktemp("keras"))


def save_all(network, folder):
    for name in ENDINGS:
        save = network.save_weights if "weights" in name else network.save
        with warnings.catch_warnings(action="ignore"):  # of formats it calls old
            save(folder / name)
    return folder


@pytest.mark.slow
def test_features_of_a_densenet_are_keras(tmp_path):
    """Of keras.applications' DenseNet121 without a head, with random statistics."""
    keras.utils.set_random_seed(0)
    network = keras.applications.DenseNet121(
        weights=None, include_top=False, input_shape=(64, 64, 3), pooling="avg"
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for _ in range(4)])
    images = rng.standard_normal((2, 64, 64, 3), np.float32)
    expected = np.asarray(network(images))
    save_all(network, tmp_path)
    for name in ENDINGS:
        model = create_model("densenet121", num_classes=2)
        started = jaxmed_convert.initialize(
            model, f"file:{tmp_path / name}", cache=tmp_path
        )
        assert "Its names are those of keras.applications." in started.message
        pooled = np.asarray(model.backbone.pool(model.features(images)))  # pyright: ignore
        assert np.abs(pooled - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_every_layer_of_a_densenet_has_its_name():
    with torch.device("meta"):
        theirs = densenet121()
    names = {name: name for name, _ in theirs.named_modules()}
    (table,) = (t for t, note in other_names("densenet121") if note == KERAS)
    assert set(table.values()) <= names.keys()
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    layers = {n for n, m in theirs.named_modules() if isinstance(m, kinds)}
    assert sorted(table.values()) == sorted(layers)


@pytest.mark.parametrize("name", ENDINGS[1:])
def test_every_format_has_the_same_arrays(files, name):
    expected = read_keras(files / ENDINGS[0])
    found = read_keras(files / name)
    assert found.keys() == expected.keys()
    assert sorted(found) == [
        "conv1_bn.bias",
        "conv1_bn.running_mean",
        "conv1_bn.running_var",
        "conv1_bn.weight",
        "conv1_conv.weight",
        "predictions.bias",
        "predictions.weight",
    ]
    assert found["conv1_conv.weight"].shape == (4, 3, 3, 3)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    assert read_checkpoint(files / name).keras


def test_keras_2_has_slashes_in_names_and_numbers_behind_them(tmp_path):
    """As RadImageNet's files: "conv1/bn/gamma:0" in the layer "conv1/bn"."""
    arrays = {"conv1/conv/kernel:0": (7, 7, 3, 64), "conv1/bn/gamma:0": (64,)}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        group = file.create_group("model_weights")
        layers = [name.rpartition("/")[0] for name in arrays]
        group.attrs["layer_names0"] = [layers[0].encode()]
        group.attrs["layer_names1"] = [layers[1].encode()]
        for layer, (name, shape) in zip(layers, arrays.items(), strict=True):
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [name.encode()]
            inner[name] = np.ones(shape, np.float32)
    found = read_keras(tmp_path / "old.h5")
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {"conv1_conv.weight": (64, 3, 7, 7), "conv1_bn.weight": (64,)}


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("resnet50", "its blocks halve a map in their first convolution, not in the "),
        ("inception_v3", "its pooling branches average without the padding"),
        ("convnext_tiny", "only Keras' DenseNets are known to be"),
    ],
)
def test_networks_that_differ_are_refused(files, architecture, reason, tmp_path):
    path = files / ENDINGS[0]
    with pytest.raises(InputError, match=reason) as caught:
        prepare(architecture, f"file:{path}", cache=tmp_path)
    assert "Take weights for PyTorch" in str(caught.value)
    assert not (tmp_path / "weights").exists()


def test_damaged_files_are_sentences(files, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes((files / ENDINGS[0]).read_bytes()[:3000])
    with pytest.raises(InputError, match="is damaged, or not of a network that Keras"):
        read_checkpoint(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(InputError, match="has no layer_names"):
        read_checkpoint(tmp_path / "other.h5")
