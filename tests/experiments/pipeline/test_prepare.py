"""Arms of other networks: a single logit, and VGG with average pooling."""

import csv
import itertools
import json
import tomllib

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxmed.experiments.__main__ import main

RECIPE = """
[data]
source = "npz:{data}"
image_size = 64
[model]
backbone = "vgg11"
pool = "average"
single_logit = true
[evaluate]
resamples = 100
[explain]
images = 2
[arms.first]
train.strategy = "full"
train.options = {{ epochs = 1, learning_rate = 1e-3 }}
[arms.second]
model.pool = "own"
model.weights = "run:bright/first/seed-0"
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Images of which half are brighter, and a recipe; VGG has few units."""
    monkeypatch.setattr("jaxmed.models.backbones.vgg.WIDTHS", (4, 4, 4, 4, 8))
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 8)
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 16), ("test", 16)):
        labels = np.arange(count) % 2
        images = random.integers(0, 120, (count, 28, 28), dtype=np.uint8)
        images += (100 * labels).astype(np.uint8)[:, None, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(tmp_path / "bright.npz", **arrays)
    path = tmp_path / "bright.toml"
    path.write_text(RECIPE.format(data=tmp_path / "bright.npz"))
    return path


def test_a_run_with_a_single_logit_and_average_pooling(recipe, capsys):
    out = recipe.parent / "out"
    assert main(["run", str(recipe), "--out", str(out), "--arms", "first"]) == 0
    folder = out / "bright" / "first" / "seed-0"
    model = tomllib.loads((folder / "config.toml").read_text())["model"]
    assert model["single_logit"] is True
    assert model["pool"] == "average"
    # Eight 3×3 convolutions with biases, and a linear layer of 8 features to 1 logit.
    channels = [3, 4, 4, 4, 4, 4, 4, 8, 8]
    convolutions = sum(9 * i * o + o for i, o in itertools.pairwise(channels))
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["parameters"]["total"] == convolutions + 9

    with (folder / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    probs = np.array([[float(row["prob_0"]), float(row["prob_1"])] for row in rows])
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)
    metrics = json.loads((folder / "metrics.json").read_text())
    auroc = roc_auc_score([int(row["label"]) for row in rows], probs[:, 1])
    assert metrics["test"]["auroc"]["value"] == pytest.approx(auroc, abs=1e-9)
    cams = json.loads((folder / "cams" / "cams.json").read_text())
    of = {row["id"]: row for row in rows}
    for cam in cams:
        assert cam["probability"] == float(of[cam["id"]][f"prob_{cam['predicted']}"])
        assert cam["probability"] >= 0.5

    capsys.readouterr()
    assert main(["run", str(recipe), "--out", str(out), "--arms", "second"]) == 2
    error = capsys.readouterr().err
    assert "with model.pool average, and model.pool is own; they must be" in error
