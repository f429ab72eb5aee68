"""Files that Keras saved, written by Keras."""

import os
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import numpy as np
import pytest

import jaxmed_convert
from jaxmed.errors import InputError
from jaxmed.models.registry import create_model
from jaxmed_convert.checkpoints.keras_files import read_keras
from jaxmed_convert.checkpoints.read import read_checkpoint
from jaxmed_convert.verify.parity import TOLERANCE
from jaxmed_convert.weights.pretrained import prepare

ENDINGS = ("whole.h5", "numbered.weights.h5", "archive.keras")


@pytest.fixture(scope="module")
def densenet():
    """keras.applications' DenseNet121 without a head, with random statistics."""
    keras.utils.set_random_seed(0)
    model = keras.applications.DenseNet121(
        weights=None, include_top=False, input_shape=(64, 64, 3), pooling="avg"
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for _ in range(4)])
    return model


@pytest.fixture(scope="module")
def files(densenet, tmp_path_factory):
    """One file of each format, by its name."""
    folder = tmp_path_factory.mktemp("keras")
    for name in ENDINGS:
        save = densenet.save_weights if "weights" in name else densenet.save
        with warnings.catch_warnings(action="ignore"):  # of formats it calls old
            save(folder / name)
    return folder


def test_features_are_keras(densenet, files, tmp_path):
    model = create_model("densenet121", num_classes=2)
    path = files / ENDINGS[0]
    started = jaxmed_convert.initialize(model, f"file:{path}", cache=tmp_path)
    assert "Its names are those of keras.applications." in started.message
    images = np.random.default_rng(1).standard_normal((2, 64, 64, 3), np.float32)
    expected = np.asarray(densenet(images))
    pooled = np.asarray(model.backbone.pool(model.features(images)))  # pyright: ignore
    assert np.abs(pooled - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", ENDINGS[1:])
def test_every_format_has_the_same_arrays(files, name):
    expected = read_keras(files / ENDINGS[0])
    found = read_keras(files / name)
    assert found.keys() == expected.keys()
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
    path.write_bytes((files / ENDINGS[0]).read_bytes()[:5000])
    with pytest.raises(InputError, match="is damaged, or not of a network that Keras"):
        read_checkpoint(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(InputError, match="has no layer_names"):
        read_checkpoint(tmp_path / "other.h5")
