"""How images are prepared, from a recipe to a run's files and back, by torchvision."""

import csv
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from jaxmed.checkpoints.checkpoint import load_best_weights
from jaxmed.config.schema import DataConfig, EvaluateConfig
from jaxmed.data.images.resizing import FACTOR, MODES, Resizing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.data.transforms.test_time import VIEWS
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.inference.forward import predict
from jaxmed.models.parameters import load
from jaxmed.models.registry import create_model
from jaxmed.runs.trained_model import read_trained_model

RECIPE = """
[data]
source = "folder:{images}"
image_size = 28
resize = "crop"
[augment]
preset = "shift_flip_rotate_jitter"
[model]
backbone = "resnet10_narrow"
mean = [0.5, 0.4, 0.3]
std = [0.25, 0.5, 0.25]
[train]
strategy = "frozen"
options = {{ epochs = 1, batch_norm = "train" }}
[evaluate]
resamples = 100
tta = "ten_crop"
[explain]
images = 1
[arms.cropped]
[arms.padded]
data.resize = "pad"
evaluate.tta = "flip"
"""
SCALE = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.5, 0.25)}
RESIZINGS = {
    "cropped": Resizing(mode="crop"),
    "padded": Resizing(mode="pad"),
}


def flips(image):
    padded = v2.CenterCrop(28)(v2.Resize(None, max_size=28)(image))
    return [padded, v2.functional.horizontal_flip(padded)]


VIEWS_OF = {
    "cropped": v2.Compose([v2.Resize(32), v2.CenterCrop(32), v2.TenCrop(28)]),
    "padded": flips,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the images, and in `out` the two runs, finished."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 6), ("test", 6)):
        for i in range(count):
            place = folder / "images" / split / "ab"[i % 2] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            height, width = rng.integers(25, 70, 2)
            pixels = rng.integers(0, 160, (height, width, 3), np.uint8)
            pixels[..., i % 2] += 60
            Image.fromarray(pixels).save(place)
    recipe = folder / "prepared.toml"
    recipe.write_text(RECIPE.format(images=folder / "images"))
    assert main(["run", str(recipe), "--out", str(folder / "out")]) == 0
    return folder


@pytest.mark.parametrize("arm", RESIZINGS)
def test_a_finished_run_gives_its_preprocessing_back(folder, arm):
    run = folder / "out" / "prepared" / arm / "seed-0"
    found = read_trained_model(run).preprocessing
    expected = Preprocessing(image_size=28, resizing=RESIZINGS[arm], **SCALE)
    assert found == expected
    assert hash(found) == hash(expected)


@pytest.mark.parametrize("arm", VIEWS_OF)
def test_predictions_are_of_what_torchvision_makes_of_the_files(folder, arm):
    run = folder / "out" / "prepared" / arm / "seed-0"
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == {"val", "test"}
    stored = np.array([[float(row[f"prob_{c}"]) for c in "ab"] for row in rows])
    model = create_model("resnet10_narrow", num_classes=2)
    load(model, load_best_weights(run / "checkpoints")[0])
    pictures = [Image.open(folder / "images" / row["id"]) for row in rows]
    views = [[np.asarray(view) for view in VIEWS_OF[arm](p)] for p in pictures]
    each = [
        predict(
            model,
            np.stack(images),
            preprocessing=Preprocessing(image_size=28, **SCALE),
            task="binary",
        )
        for images in zip(*views, strict=True)
    ]
    # The pixels are those of torchvision but for a gray level here and there.
    np.testing.assert_allclose(stored, np.mean(each, axis=0), atol=1e-3)
    assert np.ptp(stored[:, 1]) > 1e-2


def test_views_are_said_where_numbers_are(folder):
    for arm, tta in (("cropped", "ten_crop"), ("padded", "flip")):
        run = folder / "out" / "prepared" / arm / "seed-0"
        for name in ("environment.json", "metrics.json"):
            assert json.loads((run / name).read_text())["tta"] == tta
    page = (folder / "out" / "prepared" / "report.html").read_text()
    assert (
        "28 × 28 pixels, padded to a square with black; test-time views: flip" in page
    )


def test_maps_lie_on_what_the_network_saw(folder):
    for arm in RESIZINGS:
        run = folder / "out" / "prepared" / arm / "seed-0"
        (entry,) = json.loads((run / "cams" / "cams.json").read_text())
        with Image.open(run / entry["file"]) as picture:
            left = np.asarray(picture)[::8, : picture.width // 2 : 8].astype(int)
        seen = VIEWS_OF[arm](Image.open(folder / "images" / entry["id"]))
        expected = np.asarray(seen[4 if arm == "cropped" else 0])
        assert np.abs(left - expected).max() <= 1


@pytest.mark.parametrize("stored", [None, [], {"mean": [0.5]}])
def test_what_does_not_say_it_is_no_runs_environment(folder, tmp_path, stored):
    run = tmp_path / "seed-0"
    shutil.copytree(folder / "out" / "prepared" / "padded" / "seed-0", run)
    path = run / "environment.json"
    environment = json.loads(path.read_text()) | {"preprocessing": stored}
    path.write_text(json.dumps(environment))
    with pytest.raises(InputError, match="does not say how the run prepared"):
        read_trained_model(run)


def test_recipes_name_all_there_is():
    resize = next(f for f in fields(DataConfig) if f.name == "resize")
    tta = next(f for f in fields(EvaluateConfig) if f.name == "tta")
    for field, names in ((resize, MODES), (tta, tuple(VIEWS))):
        assert field.metadata["choices"] == names
        assert set(re.findall(r"\w+", field.metadata["doc"])) >= set(names)
    assert DataConfig.resize_factor == FACTOR
