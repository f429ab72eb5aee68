"""The code of README and docs is run as it stands, with small images and networks."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import jaxmed
from jaxmed.config.recipes import load_recipe
from jaxmed.config.schema import DataConfig
from jaxmed.data.sources.registry import LOADERS
from jaxmed.data.transforms.augmentation import PRESETS as AUGMENTATIONS
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.load_data import load_images
from jaxmed.experiments.pipeline.prepare import check_arm
from jaxmed.models.parameters import split as parameters_of
from jaxmed.strategies.presets import PRESETS
from jaxmed_convert import to_torch

CHECKOUT = Path(__file__).parents[1]
TEXT, DATA, TRAINING = (
    (CHECKOUT / name).read_text("utf-8")
    for name in ("README.md", "docs/data.md", "docs/training.md")
)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(SPLIT,) = re.findall(r"```toml\n(.*?)```", DATA, re.DOTALL)
MINE, TUTORIAL, TRAIN_ON = re.findall(r"```toml\n(.*?)```", TRAINING, re.DOTALL)


def replaced(code, **exchanges):
    for old, new in exchanges.values():
        assert old in code, f"the README no longer says {old}"
        code = code.replace(old, new)
    return code


@pytest.fixture
def drawn_images(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 20), ("test", 20)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 100, (count, 28, 28)) + 100 * labels[:, None, None]
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    path = tmp_path / "drawn.npz"
    np.savez(path, **arrays)
    return path


def test_from_python(drawn_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "resnet10_narrow.safetensors"
    source = jaxmed.create_model("resnet10_narrow", num_classes=1000)
    scans = tmp_path / "scans"
    scans.mkdir()
    with np.load(drawn_images) as arrays:
        bright = arrays["test_images"][1]
    for i, pixels in enumerate((bright, np.full((28, 28), 255, np.uint8))):
        Image.fromarray(pixels).save(scans / f"{i}.png")
    save_file({k: v.contiguous() for k, v in to_torch(source).items()}, weights)
    code = replaced(
        BLOCKS[0],
        source=("medmnist:pneumoniamnist", f"npz:{drawn_images}"),
        size=("image_size=224", "image_size=64"),
        backbone=("resnet18", "resnet10_narrow"),
        weights=('"imagenet"', f'"file:{weights}"'),
    )
    code = code.replace("new_scans", str(scans))
    assert len([line for line in code.splitlines() if "import" not in line]) <= 12
    names = {}
    exec(code, names)
    assert names["result"].best["metric"] == "val_auroc"
    report = names["report"]
    assert report["test"]["auroc"]["value"] > 0.5
    printed = capsys.readouterr().out
    assert "'chosen_on': 'val'" in printed
    line = r"^{}/{}.png [01] {{'0': .*, '1': .*}} {} \(64, 64\)$"
    assert re.search(line.format(scans, 0, "(True|False)"), printed, re.MULTILINE)
    # White, as no image was.
    assert re.search(line.format(scans, 1, "True"), printed, re.MULTILINE)
    probs = names["test"].probs[:, 1]
    found = names["predictor"].predict(names["data"].test.images)
    expected = probs >= report["threshold"]["value"]
    assert [one.above_threshold["1"] for one in found] == expected.tolist()


def run_recipe(path, images, out, *flags):
    """Runs a recipe on the drawn images with the small network; returns its folder."""
    small = ("--data.image-size", "32", "--model.backbone", "resnet10_narrow")
    quick = ("--evaluate.resamples", "100", "--explain.images", "0")
    drawn = ("--data.source", f"npz:{images}", "--out", str(out))
    assert main(["run", str(path), *small, *quick, *drawn, *flags]) == 0
    return out / path.stem / "main" / "seed-0"


def phases_of(folder):
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    return environment["parameters"]["phases"]


def test_your_own_strategy(drawn_images, tmp_path, monkeypatch):
    code = BLOCKS[1]
    assert len(code.strip().splitlines()) < 15
    (tmp_path / "my_module.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text("[data]\nsource = 'given below'", encoding="utf-8")
    (flags,) = re.findall(r"`(--train\.strategy my_module:.*?)`", TEXT)
    own = (*flags.split(), "--train.options.epochs", "2")
    folder = run_recipe(path, drawn_images, tmp_path / "out", *own)
    (phase,) = phases_of(folder)
    norms, last = phase["groups"]
    assert (norms["name"], norms["optimizer"]) == ("norms", "adam")
    assert (last["name"], last["optimizer"]) == ("last", "adamw")
    assert norms["learning_rate"] == pytest.approx(3e-4)
    assert last["learning_rate"] == pytest.approx(3e-5)
    assert phase["schedule"].startswith("cosine")
    model = jaxmed.create_model("resnet10_narrow", num_classes=2)
    total = sum(array.size for array in parameters_of(model).params.values())
    convolutions = total - norms["parameters"] - last["parameters"]
    assert convolutions == sum(
        array.size
        for path, array in parameters_of(model).params.items()
        if array.ndim == 4 and "layer4" not in path
    )


def test_your_own_images_in_one_command(drawn_images, tmp_path, monkeypatch):
    data, folder = np.load(drawn_images), tmp_path / "my_images"
    for split in ("train", "val", "test"):
        pairs = zip(data[f"{split}_images"], data[f"{split}_labels"], strict=True)
        for i, (image, (label,)) in enumerate(pairs):
            path = folder / split / "ab"[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^python -m jaxmed.experiments (run .*)$", TEXT, re.M)
    small = ("--data.image-size", "32", "--model.backbone", "resnet10_narrow")
    quick = ("--evaluate.resamples", "100", "--explain.images", "0")
    quicker = ("--arms.frozen.train.options.epochs", "1")
    assert (
        main([*command.split(), *small, *quick, *quicker, "--model.weights", "none"])
        == 0
    )
    (page,) = re.findall(r"`(runs/.*?report.html)`", TEXT)
    assert "two_phase" in (tmp_path / page).read_text("utf-8")


def test_a_recipe_of_arms_and_seeds_is_one(tmp_path):
    path = tmp_path / "my_recipe.toml"
    path.write_text(MINE, encoding="utf-8")
    recipe = load_recipe(path)
    for arm, config in recipe.arms.items():
        check_arm(config, arm)
        assert config.train.seeds == (0, 1, 2)


def test_measured_numbers_are_those_of_the_experiments():
    measured = TEXT.partition("## Measured\n")[2].partition("\n## ")[0]
    numbers = re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", measured)
    assert len(numbers) > 10
    page = (CHECKOUT / "experiments" / "README.md").read_text("utf-8")
    assert [number for number in numbers if number not in page] == []


def test_every_source_has_its_row():
    named = set(re.findall(r"^\| `(\w+)(?::\w+)?`", DATA, re.MULTILINE))
    assert set(LOADERS) <= named


def test_the_sequence_runs_and_its_configuration_is_a_recipe(
    drawn_images, tmp_path, capsys
):
    path = tmp_path / "tutorial.toml"
    path.write_text(f"{TUTORIAL}\n[data]\nsource = 'given below'", encoding="utf-8")
    folder = run_recipe(path, drawn_images, tmp_path / "out")
    head, last = phases_of(folder)
    assert (head["epochs"], head["schedule"]) == (5, "one cycle")
    assert [(g["optimizer"], g["learning_rate"]) for g in head["groups"]] == [
        ("adamw", 2e-3)
    ]
    assert (last["epochs"], last["schedule"]) == (10, "cosine by step")
    assert [(g["name"], g["learning_rate"]) for g in last["groups"]] == [
        ("layer4", 1e-4),
        ("head", 5e-4),
    ]
    assert {g["optimizer"] for g in last["groups"]} == {"sgd"}
    assert last["frozen"] == ["stem", "layer1", "layer2", "layer3"]

    written = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    asked = tomllib.loads(TUTORIAL)["train"]
    assert {key: written["train"][key] for key in asked} == asked
    capsys.readouterr()
    again = ["run", str(folder / "config.toml"), "--out", str(tmp_path / "out")]
    assert main(again) == 0
    assert f"Finished already, skipped: {folder}" in capsys.readouterr().out


def test_training_on_from_a_finished_run_is_a_recipe(tmp_path):
    path = tmp_path / "train_on.toml"
    path.write_text(f"{TRAIN_ON}\n[data]\nsource = 'cells'", encoding="utf-8")
    (config,) = load_recipe(path).arms.values()
    check_arm(config, "main")
    assert config.model.weights == "run:my_recipe/full/seed-0"
    assert config.model.keep_head


def test_the_split_by_patient_keeps_patients_together(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        for label, name in (
            ("NORMAL", f"IM-{i // 3:04d}-{i:04d}.jpeg"),
            ("PNEUMONIA", f"person{i // 3}_virus_{i}.jpeg"),
        ):
            path = tmp_path / "chest_xray" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    code = replaced(SPLIT, source=("folder:chest", f"folder:{tmp_path}/chest"))
    data = load_images(DataConfig(**tomllib.loads(code)["data"]))
    parts = [data.train, data.val, data.test]
    assert [len(part) for part in parts] == [84, 12, 24]
    groups = [set(part.groups) for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 40


@pytest.mark.parametrize(
    ("page", "heading", "presets"),
    [(DATA, "Data augmentation", AUGMENTATIONS), (TRAINING, "Strategies", PRESETS)],
)
def test_the_tables_name_every_preset_once(page, heading, presets):
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert named == list(presets)
