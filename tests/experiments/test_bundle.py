"""A finished run, put together again, and folders that are none."""

import json
import shutil

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation.storage import read_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.bundle import load_bundle
from jaxmed.training.predict import predict

RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
head = "hidden"
hidden_features = 8
in_channels = 1
mean = [0.4]
std = [0.3]
[train]
strategy = "full"
options = {{ epochs = 2, learning_rate = 1e-3 }}
ema = 0.5
precision = "bfloat16"
[evaluate]
resamples = 100
calibration = "vector"
[explain]
images = 0
"""


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 24), ("val", 18), ("test", 15)):
        labels = np.arange(count) % 3
        pixels = rng.integers(0, 120, (count, 28, 28)) + 60 * labels[:, None, None]
        arrays[f"{split}_images"] = pixels.astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None]
    return arrays


@pytest.fixture(scope="module")
def run(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("bundled")
    np.savez(folder / "data.npz", **images)
    recipe = folder / "grey.toml"
    recipe.write_text(RECIPE.format(data=folder / "data.npz"))
    assert main(["run", str(recipe), "--out", str(folder)]) == 0
    return folder / "grey" / "main" / "seed-0"


def test_a_bundle_predicts_what_the_run_did(run, images):
    bundle = load_bundle(run)
    metrics = json.loads((run / "metrics.json").read_text())
    names = ("0", "1", "2")
    expected = read_predictions(
        run / "predictions.csv", class_names=names, task="multiclass"
    )["test"]
    found = predict(
        bundle.model,
        images["test_images"][..., None],
        preprocessing=bundle.preprocessing,
        task=bundle.task,
        views=bundle.views,
    )
    np.testing.assert_allclose(found, expected.probs, atol=1e-6)
    assert (bundle.task, bundle.class_names) == ("multiclass", names)
    assert bundle.thresholds == metrics["threshold"]["value"]
    assert bundle.image_shape == (28, 28)
    assert bundle.scaling is not None
    assert bundle.scaling.describe().items() <= metrics["calibration"].items()
    assert bundle.fingerprints["predictions"] == metrics["fingerprint"]
    assert bundle.config.model.hidden_features == 8


def change(path, key, value):
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


def lose(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose("config.toml"), "is no run: there is no config.toml"),
        (lose("metrics.json"), "is not finished. `run .*config.toml`"),
        (
            lambda folder: (folder / "metrics.json").write_text("{"),
            "metrics.json is not valid JSON",
        ),
        (
            lambda folder: change(folder / "metrics.json", "threshold", {}),
            r"not as a run writes them \(KeyError\('value'\)\)",
        ),
        (
            lambda folder: change(folder / "metrics.json", "class_names", ["0", "1"]),
            "are not of the model that its config.toml describes",
        ),
        (
            lambda folder: change(folder / "environment.json", "preprocessing", None),
            "did not record how it prepared images",
        ),
        (
            lambda folder: shutil.rmtree(folder / "checkpoints"),
            "There are no checkpoints",
        ),
    ],
)
def test_what_is_no_finished_run_is_refused(run, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_bundle(folder)


def test_the_folder_of_an_experiment_leads_to_a_run_of_it(run, tmp_path):
    with pytest.raises(InputError, match=r"Did you mean .*grey/main/seed-0"):
        load_bundle(run.parents[1])
    with pytest.raises(InputError, match="There is no run folder"):
        load_bundle(tmp_path / "nothing")
