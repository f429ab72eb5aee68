"""Runs on folders with unusable files: what is recorded, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.config.schema import DataConfig
from jaxmed.data.sources.registry import load_dataset
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.load_data import load_images
from jaxmed.experiments.pipeline.train_run import _check_unchanged

RECIPE = """
[data]
source = "folder:{root}"
image_size = 32
on_error = "skip"
[model]
backbone = "resnet10_narrow"
[evaluate]
resamples = 100
[explain]
images = 0
[arms.frozen]
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6), ("test", 6)):
        for i in range(count):
            path = root / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(path)
    (root / "train" / "a" / "empty.png").write_bytes(b"")
    (root / "val" / "b" / "text.png").write_text("text, with a comma")
    return root


def test_a_run_records_what_it_skipped(root, tmp_path, capsys):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.format(root=root))
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 left out, such as train/a/empty.png (the file is empty)" in said
    assert "1 left out, such as val/b/text.png (not one of JPEG" in said
    folder = tmp_path / "out" / "mine" / "frozen" / "seed-0"
    with (folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"name": "train/a/empty.png", "reason": "the file is empty"},
        {
            "name": "val/b/text.png",
            "reason": "not one of JPEG, PNG, TIFF, BMP, WEBP, GIF, JPEG2000, PPM, or "
            "damaged, or a kind that Pillow does not read",
        },
    ]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data"]["skipped"] == 2
    assert environment["data"]["sizes"] == {"train": 16, "val": 6, "test": 6}
    assert len((folder / "split.csv").read_text().splitlines()) == 1 + 28


def test_a_run_that_stops_writes_nothing(root, tmp_path, capsys):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.format(root=root))
    words = ["run", str(recipe), "--out", str(tmp_path / "out")]
    assert main([*words, "--data.on-error", "stop"]) == 2
    assert "2 of 30 images cannot be used: train/a/empty.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_that_stay_in_their_files_are_announced(root, capsys):
    source = f"folder:{root}"
    config = DataConfig(source=source, image_size=32, memory=0.0, on_error="skip")
    load_images(config)
    said = capsys.readouterr().out
    assert f"{source}: decoded images would take 2.87e-05 GB, so they are" in said


def test_a_run_does_not_go_on_with_images_held_elsewhere(root, tmp_path):
    kinds = [
        load_dataset(
            f"folder:{root}", image_size=32, memory_budget=memory, on_error="skip"
        ).fingerprint
        for memory in (0, 1)
    ]
    weights = {"weights": {"fingerprint": None}}
    path = tmp_path / "environment.json"
    for before, now, words in (
        (*kinds, "began with images in their files, and now they are in memory"),
        (*kinds[::-1], "began with images in memory, and now they are in their files"),
    ):
        path.write_text(json.dumps({"data": {"fingerprint": before}} | weights))
        with pytest.raises(InputError, match=rf"{words}\. Set --data\.memory"):
            _check_unchanged(tmp_path, {"data": {"fingerprint": now}} | weights)
        _check_unchanged(tmp_path, {"data": {"fingerprint": before}} | weights)
