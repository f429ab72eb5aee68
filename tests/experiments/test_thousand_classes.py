"""A data set of 1,000 classes: audited and, slowly, trained and reported."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxmed.experiments.__main__ import main

# Pixels of a side that a JPEG can have.
LARGEST = 65_535
RECIPE = """
[data]
source = "npz:{path}"
image_size = 32
[model]
backbone = "resnet10_narrow"
weights = "none"
[train]
strategy = "full"
batch_size = 100
options = {{ epochs = 1 }}
[evaluate]
resamples = 100
[arms.full]
"""


@pytest.fixture
def path(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 2000), ("val", 1000), ("test", 1000)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 16, 16), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 1000
    np.savez(tmp_path / "many.npz", **arrays)
    return tmp_path / "many.npz"


def assert_pictures_open(page):
    pictures = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)
    assert pictures
    for content in pictures:
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            picture.load()
            assert max(picture.size) <= LARGEST


def test_it_is_audited(path, tmp_path):
    assert main(["inspect", f"npz:{path}", "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "inspect-many.json").read_text("utf-8"))
    assert len(found["class_names"]) == len(found["counts"]["train"]) == 1000
    assert_pictures_open((tmp_path / "out" / "inspect-many.html").read_text("utf-8"))


@pytest.mark.slow
def test_it_is_trained_and_reported(path, tmp_path):
    recipe = tmp_path / "many_classes.toml"
    recipe.write_text(RECIPE.format(path=path))
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "many_classes"
    assert_pictures_open((folder / "report.html").read_text("utf-8"))
    metrics = json.loads((folder / "full" / "seed-0" / "metrics.json").read_text())
    assert len(metrics["per_class"]["test"]) == 1000
