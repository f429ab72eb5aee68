"""Models saved from Python, loaded again, and used as a run's are."""

import json
import shutil

import numpy as np
import pytest
from flax import nnx

import jaxmed
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.weights import load_start
from jaxmed.models.parameters import split
from jaxmed.models.precision import precision_of, set_precision

COMPARED = ("config", "preprocessing", "task", "class_names", "thresholds", "views",
            "image_shape", "method", "layer", "fingerprints")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 24), ("val", 18), ("test", 15)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 20, 24)) + 60 * labels[:, None, None]
        arrays[f"{name}_images"] = images.astype(np.uint8)
        arrays[f"{name}_labels"] = labels[:, None]
    path = tmp_path_factory.mktemp("data") / "gray.npz"
    np.savez(path, **arrays)
    return jaxmed.load_dataset(f"npz:{path}", image_size=32)


@pytest.fixture(scope="module")
def predictor(data):
    model = jaxmed.create_model(
        "resnet10_narrow",
        num_classes=3,
        in_channels=1,
        head="hidden",
        hidden_features=8,
        dropout=0.25,
        seed=5,
    )
    model.mean, model.std = (0.3,), (0.2,)
    # Statistics other than zeros and ones.
    for number, (_, node) in enumerate(nnx.iter_graph(model)):
        if isinstance(node, nnx.BatchStat):
            node.set_value(node[...] + np.float32(number / 999))
    set_precision(model, "bfloat16")
    options = {"views": "flip"}
    val, test = (
        jaxmed.predict_split(model, data, name, **options) for name in ("val", "test")
    )
    report = jaxmed.evaluate(val, test, resamples=100, calibration="vector")
    return jaxmed.make_predictor(model, data, report, **options)


@pytest.fixture(scope="module")
def folder(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "gray_model"
    jaxmed.save_model(folder, predictor)
    return folder


def arrays_of(predictor):
    parts = split(predictor.model)
    return parts.params | parts.stats


def assert_equal(a, b):
    ours, theirs = arrays_of(a), arrays_of(b)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert np.asarray(array).tobytes() == np.asarray(theirs[name]).tobytes(), name
    np.testing.assert_array_equal(a.detector.distances, b.detector.distances)
    for ours, theirs in zip(a.detector.layers, b.detector.layers, strict=True):
        for name, value in vars(ours).items():
            np.testing.assert_array_equal(value, getattr(theirs, name))
    assert precision_of(a.model) == precision_of(b.model)
    for name in COMPARED:
        assert getattr(a, name) == getattr(b, name), name
    assert a.scaling.describe() == b.scaling.describe()
    assert a.metrics == b.metrics


def test_a_saved_model_is_loaded_bit_for_bit(predictor, folder, data):
    loaded = jaxmed.load_model(folder)
    assert_equal(predictor, loaded)
    assert precision_of(loaded.model) == "bfloat16"
    assert loaded.config.hidden_features == 8
    assert loaded.config.dropout == 0.25
    images = data.test.images
    assert loaded.predict(images) == predictor.predict(images)


def test_a_loaded_model_can_be_saved_again(folder, tmp_path):
    first = jaxmed.load_model(str(folder))
    jaxmed.save_model(str(tmp_path / "again"), first)
    assert_equal(first, jaxmed.load_model(tmp_path / "again"))


@pytest.mark.slow
def test_the_commands_take_a_saved_model(folder, data, tmp_path, capsys):
    from PIL import Image

    images = [tmp_path / f"{i}.png" for i in range(3)]
    for path, pixels in zip(images, data.test.images, strict=False):
        Image.fromarray(pixels[..., 0]).save(path)
    words = ["predict", str(folder), *map(str, images), "--cam", str(tmp_path / "cam")]
    assert main(words) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    expected = jaxmed.load_model(folder).predict(data.test.images[:3])
    assert [row.split(",")[1] for row in rows[1:]] == [one.decision for one in expected]
    out = ["--out", str(tmp_path / "export")]
    assert main(["export", str(folder), "--format", "safetensors", *out]) == 0
    record = json.loads((tmp_path / "export" / "model.json").read_text())
    assert record["run"]["name"] == "model"
    assert record["class_names"] == ["0", "1", "2"]
    model = jaxmed.create_model("resnet10_narrow", num_classes=2, in_channels=1)
    load_start(model, f"run:{folder}", tmp_path)
    assert (model.mean, model.std) == ((0.3,), (0.2,))


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(
    predictor, folder, tmp_path
):
    with pytest.raises(InputError, match=r"exists\. Give a new folder"):
        jaxmed.save_model(folder, predictor)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="file is a file"):
        jaxmed.save_model(tmp_path / "file" / "model", predictor)
    other = jaxmed.load_model(folder)
    other.model.head.out = nnx.Linear(8, 3, use_bias=False, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"otherwise, such as head\.out\.bias"):
        jaxmed.save_model(tmp_path / "model", other)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_folder_is_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "out_of_distribution.npz").write_bytes(b"no arrays")
    with pytest.raises(InputError, match=r"out_of_distribution\.npz cannot be read"):
        jaxmed.load_model(copy)
    (copy / "out_of_distribution.npz").unlink()
    (row,) = jaxmed.load_model(copy).predict(np.zeros((9, 9, 1), np.uint8))
    assert row.ood_score is None

    (copy / "config.toml").write_text('[model]\nbackbone = "resnet18"\nin_channels = 1')
    with pytest.raises(InputError, match="not of the model that its config"):
        jaxmed.load_model(copy)
    with pytest.raises(InputError, match="There is no run folder"):
        jaxmed.load_model(tmp_path / "none")
