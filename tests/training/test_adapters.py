"""LoRA from a fit to files: the base stays, updates are saved, the merged is used."""

import csv

import jax
import numpy as np
import pytest
from fixtures.tiny_vit import SMALL

import jaxmed
from jaxmed.checkpoints.checkpoint import load_best_weights
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy
from jaxmed.strategies.adapter import add_adapter

OPTIONS = {"rank": 2, "epochs": 2, "dropout": 0.1}


def train(data, folder, **options):
    model = create_model("vit_small_patch16_224", num_classes=3)
    result = jaxmed.fit(
        model,
        data,
        lambda model: create_strategy("lora", model, **OPTIONS | options),
        batch_size=10,
        checkpoints=folder,
    )
    return model, result


@pytest.mark.usefixtures("small_vits")
def test_the_base_is_bit_identical_and_checkpoints_have_the_updates(quarters, tmp_path):
    base = split(create_model("vit_small_patch16_224", num_classes=3)).params
    model, result = train(quarters, tmp_path / "checkpoints")
    after = split(model).params
    for path, array in base.items():
        same = np.array_equal(after[path], array)
        assert same == (not path.startswith("head.")), path
    moved = [path for path in after if path.endswith("lora_q.b")]
    assert len(moved) == SMALL["depth"]
    assert all(np.any(after[path]) for path in moved)
    weights, _ = load_best_weights(tmp_path / "checkpoints")
    assert all(np.array_equal(weights[path], after[path]) for path in after)
    assert [row["lr_updates"] for row in result.history] == [1e-3, 1e-3]

    # Resumed, it is the same model; of other updates the checkpoints are refused.
    again, _ = train(quarters, tmp_path / "checkpoints")
    assert all(np.array_equal(split(again).params[p], after[p]) for p in after)
    with pytest.raises(InputError, match=r"adapter\.alpha was 16\.0, and now is 4\.0"):
        train(quarters, tmp_path / "checkpoints", alpha=4.0)


@pytest.mark.usefixtures("small_vits")
def test_the_optimizer_and_the_gradients_are_of_what_is_trained(quarters):
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.training.state import StepPlan, begin_phase

    model = create_model("vit_small_patch16_224", num_classes=3)
    strategy = create_strategy("lora", model, **OPTIONS)
    add_adapter(model, strategy.adapter)
    plan = StepPlan(
        phase=strategy.phases[0],
        preprocessing=Preprocessing(image_size=12),
        task=quarters.task,
    )
    _, state, frozen = begin_phase(model, plan)
    trained = {path for path in split(model).params if "lora" in path or "head" in path}
    assert state.params.keys() == trained
    assert frozen.params.keys() == split(model).params.keys() - trained
    kept = sum(leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim)
    assert kept == 2 * sum(array.size for array in state.params.values())


RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 16
strategy = "lora"
options = {{ rank = 2, epochs = 1, learning_rate = 1e-2 }}
[evaluate]
resamples = 100
[explain]
images = 0
"""


def test_a_run_is_of_the_merged_network(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 24), ("val", 12), ("test", 12)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 120, (count, 28, 28)) + 60 * labels[:, None, None]
        arrays[f"{name}_images"] = images.astype(np.uint8)
        arrays[f"{name}_labels"] = labels[:, None]
    np.savez(tmp_path / "drawn.npz", **arrays)
    recipe = tmp_path / "low_rank.toml"
    recipe.write_text(RECIPE.format(data=tmp_path / "drawn.npz"))
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0

    (folder,) = (tmp_path / "out").glob("**/seed-0")
    predictor = jaxmed.load_model(folder)
    plain = create_model("resnet10_narrow", num_classes=2)
    assert split(predictor.model).params.keys() == split(plain).params.keys()
    with (folder / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    images = np.load(tmp_path / "drawn.npz")["test_images"]
    scores = jaxmed.predict(
        predictor.model,
        np.repeat(images[..., None], 3, axis=3),
        preprocessing=predictor.preprocessing,
        task=predictor.task,
    )
    expected = [float(row["prob_1"]) for row in rows]
    assert scores[:, 1] == pytest.approx(expected, abs=1e-6)
    files = tmp_path / "files"
    words = ["--out", str(files), "--format", "torch,safetensors,stablehlo"]
    assert main(["export", str(folder), *words]) == 0
    assert {path.name for path in files.iterdir()} > {
        "model.pth", "model.safetensors", "model.stablehlo",
    }  # fmt: skip
