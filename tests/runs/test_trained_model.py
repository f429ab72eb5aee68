"""A finished run, put together again, and folders that are none."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.errors import InputError
from jaxmed.evaluation.predictions_csv import read_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.inference.forward import predict
from jaxmed.runs.trained_model import read_trained_model

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
strategy = "frozen"
options = {{ epochs = 2, learning_rate = 1e-2, batch_norm = "train" }}
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
    folder = tmp_path_factory.mktemp("trainedd")
    np.savez(folder / "data.npz", **images)
    recipe = folder / "gray.toml"
    recipe.write_text(RECIPE.format(data=folder / "data.npz"))
    assert main(["run", str(recipe), "--out", str(folder)]) == 0
    return folder / "gray" / "main" / "seed-0"


def test_a_trained_predicts_what_the_run_did(run, images):
    trained = read_trained_model(run)
    metrics = json.loads((run / "metrics.json").read_text())
    names = ("0", "1", "2")
    expected = read_predictions(
        run / "predictions.csv", class_names=names, task="multiclass"
    )["test"]
    found = predict(
        trained.model,
        images["test_images"][..., None],
        preprocessing=trained.preprocessing,
        task=trained.task,
        views=trained.views,
    )
    np.testing.assert_allclose(found, expected.probs, atol=1e-6)
    assert (trained.task, trained.class_names) == ("multiclass", names)
    assert trained.thresholds == metrics["threshold"]["value"]
    assert trained.image_shape == (28, 28)
    assert trained.scaling is not None
    assert trained.scaling.describe().items() <= metrics["calibration"].items()
    assert trained.fingerprints["predictions"] == metrics["fingerprint"]
    assert trained.config.hidden_features == 8


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
        (
            lose("metrics.json"),
            "it has no metrics.json. `run .*config.toml`",
        ),
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
            "does not say how the run prepared its images",
        ),
        (
            lambda folder: shutil.rmtree(folder / "checkpoints"),
            "lacks checkpoints, which using",
        ),
    ],
)
def test_what_is_no_finished_run_is_refused(run, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    damage(folder)
    with pytest.raises(InputError, match=message):
        read_trained_model(folder)


def test_the_folder_of_an_experiment_leads_to_a_run_of_it(run, tmp_path):
    with pytest.raises(InputError, match=r"Did you mean .*gray/main/seed-0"):
        read_trained_model(run.parents[1])
    with pytest.raises(InputError, match="There is no run folder"):
        read_trained_model(tmp_path / "nothing")


# What docs/using_a_model.md lists.
SHARED = ("config.toml", "environment.json", "metrics.json", "out_of_distribution.npz",
          "MODEL_CARD.md")  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The run of images that are named after patients, and the part to be shared."""
    folder = tmp_path_factory.mktemp("shared")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8), ("test", 8)):
        for number in range(count):
            name = f"images/{split}/{('sick', 'well')[number % 2]}"
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (32, 32), dtype=np.uint8)
            path = folder / name / f"Mustermann_Erika-{split}-{number}.png"
            Image.fromarray(pixels).save(path)
    recipe = folder / "named.toml"
    text = RECIPE.format(data="").replace("npz:", f"folder:{folder / 'images'}")
    text = text.replace('calibration = "vector"', "").replace("= 0\n", "= 2\n")
    recipe.write_text(text)
    assert main(["run", str(recipe), "--out", str(folder)]) == 0
    run, copy = folder / "named" / "main" / "seed-0", folder / "copy"
    copy.mkdir()
    for name in SHARED:
        shutil.copy(run / name, copy)
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
    return run, copy


def test_the_page_lists_what_is_shared():
    page = (Path(__file__).parents[2] / "docs" / "using_a_model.md").read_text()
    listed = re.findall(r"^\| `([^`]+)` \|", page.split("## predict")[0], re.MULTILINE)
    assert sorted(listed) == sorted([*SHARED, "checkpoints/"])


def test_the_shared_part_of_a_run_is_enough(shared, tmp_path):
    run, copy = shared
    image = str(next(run.parents[2].glob("images/test/*/*.png")))
    said = []
    for number, folder in enumerate((run, copy)):
        out = tmp_path / f"{number}.csv"
        words = ["predict", str(folder), image, "--out", str(out), "--cam"]
        assert main(words) == 0
        said.append(out.read_text().replace(f"{number}_cams", ""))
    assert said[0] == said[1]
    export = ["export", str(copy), "--format", "safetensors", "--out"]
    assert main([*export, str(tmp_path / "export")]) == 0
    recipe = tmp_path / "more.toml"
    text = (run.parents[2] / "named.toml").read_text()
    recipe.write_text(text.replace("[model]", f'[model]\nweights = "run:{copy}"'))
    flags = ["--train.options.epochs", "1", "--explain.images", "0"]
    assert main(["run", str(recipe), "--out", str(tmp_path), *flags]) == 0


def test_the_shared_part_of_a_run_names_no_image(shared):
    run, copy = shared
    for path in copy.rglob("*"):
        if path.is_file():
            assert b"Mustermann" not in path.read_bytes(), path
    # Which other files do.
    assert b"Mustermann" in (run / "predictions.csv").read_bytes()


@pytest.mark.parametrize("name", [*SHARED[:3], "checkpoints"])
def test_what_the_shared_part_lacks_is_named(shared, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(shared[1], copy)
    shutil.move(copy / name, tmp_path / "away")
    with pytest.raises(InputError, match=re.escape(name)):
        read_trained_model(copy)
