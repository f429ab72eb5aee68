"""Gray values of more than 8 bits: one range, from training to export."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.experiments.__main__ import main
from jaxmed.inference.saved_model import load_model

RECIPE = """
[data]
source = "folder:scans"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = { epochs = 1 }
[evaluate]
resamples = 100
[explain]
images = 0
[arms.found]
[arms.given]
data.window = "2000,3001"
"""


def draw(path, seed, high=4095):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, high, (32, 32), endpoint=True)
    Image.fromarray(pixels.astype(np.uint16)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scans of 12 bits in files of 16, and in `out` the two runs."""
    folder = tmp_path_factory.mktemp("window")
    for split, count in (("train", 8), ("val", 6), ("test", 6)):
        for i in range(count):
            draw(folder / "scans" / split / "ab"[i % 2] / f"{i}.png", i)
    (folder / "scans" / "train" / "a" / "notes.txt").write_text("what they are")
    (folder / "window.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXMED_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["run", "window.toml", "--out", "out"]) in (0, None)
    return folder


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.setenv("JAXMED_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


def run_of(folder, arm):
    (run,) = (folder / "out" / "window" / arm).glob("seed-*")
    return run


def train_range(folder):
    files = (folder / "scans" / "train").rglob("*.png")
    return np.percentile([np.asarray(Image.open(path)) for path in files], (0.1, 99.9))


def test_a_run_records_what_became_black_and_white(here):
    limits = train_range(here)
    for arm, expected in (("found", limits), ("given", (499.5, 3499.5))):
        record = json.loads((run_of(here, arm) / "environment.json").read_text())
        assert record["preprocessing"]["window"]["limits"] == pytest.approx(expected)
        low, high = record["preprocessing"]["window"]["limits"]
        card = (run_of(here, arm) / "MODEL_CARD.md").read_text()
        assert f"{low:g} to {high:g}" in card
    skipped = (run_of(here, "found") / "skipped.csv").read_text()
    assert "train/a/notes.txt" in skipped


@pytest.mark.parametrize("arm", ["found", "given"])
def test_prediction_decodes_as_training_did(here, arm):
    run = load_model(run_of(here, arm))
    with (run_of(here, arm) / "predictions.csv").open() as file:
        rows = {
            row["id"]: row for row in csv.DictReader(file) if row["split"] == "test"
        }
    found = run.predict([f"scans/{name}" for name in rows])
    for one, row in zip(found, rows.values(), strict=True):
        raw = np.array([[float(row["prob_a"]), float(row["prob_b"])]])
        expected = run.scaling.calibrate(raw, run.task) if run.scaling else raw
        np.testing.assert_allclose([*one.probs.values()], expected[0], atol=1e-5)
        assert not one.few_levels


def test_images_on_another_scale_are_pointed_out(here, tmp_path, capsys):
    for seed in range(2):
        draw(tmp_path / "dark" / f"{seed}.png", seed, high=60)
    (tmp_path / "dark" / "notes.txt").write_text("what they are")
    main(["predict", str(run_of(here, "found")), str(tmp_path / "dark")])
    said = capsys.readouterr().err
    assert "2 of 2 images have few gray levels" in said
    assert "1 left out, such as" in said
    assert "notes.txt (no image by its name or content)" in said


def test_an_exported_model_tells_it(here, tmp_path):
    out = tmp_path / "export"
    run = str(run_of(here, "found"))
    main(["export", run, "--format", "safetensors", "--out", str(out)])
    record = json.loads((out / "model.json").read_text())
    limits = record["preprocessing"]["window"]["limits"]
    assert limits == pytest.approx(train_range(here))


def test_inspect_and_training_tell_it(here, capsys):
    command = ["inspect", "folder:scans", "--data.image-size", "32", "--out", "sheet"]
    main(command)
    said = capsys.readouterr().out
    low, high = train_range(here)
    assert said.count(f"else {low:g} to {high:g}") == 2
    assert "few gray levels" not in said
    main([*command, "--data.window", "full"])
    said = capsys.readouterr().out
    assert "training images have few gray levels, 16 of 256" in said
    assert "Images of few gray levels: " in said
