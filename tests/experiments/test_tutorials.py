"""The recipes of tutorials: their numbers, and each run to its end on small images."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxmed.config.recipes import find_recipe, load_recipe
from jaxmed.config.schema import AugmentConfig
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.prepare import make_augmentation
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy

SMALL = ("--model.backbone", "resnet10_narrow", "--data.image-size", "32")
QUICK = ("--model.weights", "none", "--evaluate.resamples", "100")
# One epoch for each phase of a sequence.
SHORT = [f"--arms.two_phase.train.options.phases.{n}.epochs=1" for n in (1, 2)]
# Of MedMNIST: channels of the images, classes and task.
MEDMNIST = {
    "dermamnist": (3, 7, "multiclass"),
    "pathmnist": (3, 9, "multiclass"),
    "chestmnist": (1, 14, "multilabel"),
    "retinamnist": (3, 5, "ordinal"),
}


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    """A folder of gray pictures, brighter in the class PNEUMONIA."""
    folder = tmp_path_factory.mktemp("drawn") / "chest_xray"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for name, least in (("NORMAL", 0), ("PNEUMONIA", 80)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(least, least + 150, (40, 36), np.uint8)
                Image.fromarray(picture).save(folder / split / name / f"{i}.jpeg")
    return folder


def run(name, out, *flags, explained=0):
    """Runs a recipe with a small network; returns its arms' folders by name.

    Scratch arms are left out, which train as `full` does: what takes time here is
    compiling, and `check_arm` has looked at them.
    """
    arms = [arm for arm in arms_of(name) if arm != "scratch"]
    command = ["run", name, "--out", str(out), "--arms", ",".join(arms)]
    command += [*SMALL, *QUICK, *flags]
    assert main([*command, "--explain.images", str(explained)]) == 0
    assert (out / name / "report.html").is_file()
    return {arm: out / name / arm / "seed-0" for arm in arms}


def arms_of(name):
    return load_recipe(find_recipe(name)).arms


def parts_of(name):
    """Returns the parts of the sequence that the arm two_phase is."""
    train = arms_of(name)["two_phase"].train
    assert train.strategy == "sequence"
    return train.options["phases"]


def epochs_of(folder):
    """Returns the phases of the rows of history.csv."""
    with (folder / "history.csv").open() as file:
        return [row["phase"] for row in csv.DictReader(file)]


def phases_of(folder):
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    return environment["parameters"]["phases"]


def rates_of(phase):
    return {group["name"]: group["learning_rate"] for group in phase["groups"]}


def optimizers_of(phase):
    return {group["optimizer"] for group in phase["groups"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dermamnist", "pathmnist", "chestmnist", "retinamnist"]
)
def test_the_arms_on_blood_cells_run_over_other_sets(name, tmp_path):
    channels, classes, task = MEDMNIST[name]
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        shape = (3 * classes, 28, 28, channels)[: 4 if channels == 3 else 3]
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        labels = np.arange(3 * classes)[:, None] % classes
        if task == "multilabel":
            labels = (labels == np.arange(classes)).astype(int)
        arrays[f"{split}_labels"] = labels
    np.savez(tmp_path / f"{name}.npz", **arrays)
    source = ("--data.source", f"npz:{tmp_path / name}.npz")
    flags = (*source, "--train.options.epochs", "1")
    folders = run("bloodmnist_frozen_vs_full", tmp_path, *flags)
    for folder in folders.values():
        environment = json.loads((folder / "environment.json").read_text("utf-8"))
        assert len(environment["data"]["class_names"]) == classes
        assert environment["data"]["task"] == task
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        assert 0 <= metrics["test"]["auroc"]["value"] <= 1
    with (folders["full"] / "predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    probs = [float(value) for key, value in row.items() if key.startswith("prob_")]
    # Sigmoids of many labels do not add up to 1.
    assert (sum(probs) == pytest.approx(1)) == (task != "multilabel")


def test_blood_cells_are_augmented_and_all_else_is_the_same():
    plain, augmented = map(
        arms_of, ("bloodmnist_frozen_vs_full", "bloodmnist_augmented")
    )
    assert list(plain) == list(augmented) == ["frozen", "full"]
    for arm, config in plain.items():
        assert (config.data.image_size, config.train.batch_size) == (224, 64)
        changed = replace(
            config,
            name=augmented[arm].name,
            description=augmented[arm].description,
            augment=AugmentConfig(preset="flip_rotate_jitter"),
        )
        assert augmented[arm] == changed
    rates = {a: c.train.options["learning_rate"] for a, c in plain.items()}
    assert rates == {"frozen": 1e-3, "full": 1e-4}


@pytest.mark.slow
def test_three_strategies(radiographs, tmp_path):
    name = "chest_xray_three_strategies"
    quick = ("--train.options.epochs", "1")
    folders = run(name, tmp_path, "--data.source", f"folder:{radiographs}", *quick)
    found = {arm: phases_of(folder)[0] for arm, folder in folders.items()}
    features = create_model("resnet10_narrow", num_classes=2).backbone.num_features
    assert found["feature_extraction"]["trainable"] == (
        (features + 1) * 256 + (256 + 1) * 2
    )
    assert list(rates_of(found["last_two_stages"])) == ["layer3", "layer4", "head"]
    discriminative = found["discriminative"]
    rates = {"layer1": 1e-5, "layer2": 1e-5, "layer3": 1e-4, "layer4": 1e-4}
    assert rates_of(discriminative) == rates | {"head": 1e-3}
    assert optimizers_of(discriminative) == {"adamw"}
    assert discriminative["frozen"] == ["stem"]

    arms = arms_of(name)
    assert {config.model.backbone for config in arms.values()} == {"resnet50"}
    assert arms["feature_extraction"].model.dropout == 0.5
    assert arms["discriminative"].train.options["weight_decay"] == 1e-4
    weights = {arm: config.model.weights for arm, config in arms.items()}
    assert weights == dict.fromkeys(arms, "imagenet") | {"scratch": "none"}


@pytest.mark.slow
def test_grayscale(radiographs, tmp_path):
    name = "chest_xray_grayscale"
    quick = ("--train.options.epochs", "6")
    folders = run(name, tmp_path, "--data.source", f"folder:{radiographs}", *quick)
    (tuned,) = phases_of(folders["fine_tuned"])
    assert rates_of(tuned)["head"] == 1e-3
    assert {rates_of(tuned)[f"layer{i}"] for i in range(1, 5)} == {1e-4}
    assert optimizers_of(tuned) == {"adamw"}
    assert tuned["schedule"] == "cosine by step, 5 epochs of warm-up"
    environment = json.loads((folders["fine_tuned"] / "environment.json").read_text())
    assert environment["preprocessing"] == {
        "image_size": 32,
        "channels": 1,
        "mean": [0.485],
        "std": [0.229],
        "resizing": {"mode": "squash", "factor": 256 / 224},
    }

    arms = arms_of(name)
    for config in arms.values():
        options = config.train.options
        assert (options["epochs"], options["clip_norm"]) == (30, 1)
        assert (config.model.head, config.model.dropout) == ("dropout", 0.5)
        augmentation = make_augmentation(config.augment)
        crop, (_, rotation, jitter) = augmentation.crop, augmentation.ops
        assert (crop.factor, rotation.degrees) == (256 / 224, 10)
        assert (jitter.brightness, jitter.contrast) == (0.1, 0.1)
    numbers = {e.arm: e.value for e in load_recipe(find_recipe(name)).expect}
    assert numbers == {"fine_tuned": 0.87, "scratch": 0.72}


@pytest.mark.slow
def test_vgg16_as_in_keras(radiographs, tmp_path):
    name = "chest_xray_vgg16_keras"
    source = ("--data.source", f"folder:{radiographs}")
    folders = run(name, tmp_path, *source, *SHORT)
    assert epochs_of(folders["two_phase"]) == ["head", "partial"]
    metrics = json.loads((folders["two_phase"] / "metrics.json").read_text("utf-8"))
    assert metrics["threshold"]["value"] == 0.5
    assert {"ppv", "sensitivity"} <= metrics["test_at_threshold"].keys()

    config = arms_of(name)["two_phase"]
    model = create_model(
        config.model.backbone,
        num_classes=1,
        head=config.model.head,
        hidden_features=config.model.hidden_features,
        pool=config.model.pool,
    )
    strategy = create_strategy("sequence", model, **config.train.options)
    head, last = strategy.summary(model)
    assert (config.model.single_logit, config.model.dropout) == (True, 0.5)
    assert (head["trainable"], rates_of(head)) == (
        (512 + 1) * 256 + 256 + 1,
        {"head": 1e-3},
    )
    assert rates_of(last) == {"block5": 1e-5, "head": 1e-5}
    assert last["groups"][0]["parameters"] == 3 * (9 * 512 * 512 + 512)
    assert optimizers_of(head) == optimizers_of(last) == {"adam"}


@pytest.mark.slow
def test_mobilenetv2_in_two_phases(radiographs, tmp_path):
    name = "chest_xray_mobilenetv2_two_phase"
    source = ("--data.source", f"folder:{radiographs}")
    # The small network has fewer layers than that.
    stage = ("--arms.two_phase.train.options.phases.2.layers", "0")
    folders = run(name, tmp_path, *source, *SHORT, *stage)
    assert epochs_of(folders["two_phase"]) == ["head", "partial"]

    config = arms_of(name)["two_phase"]
    model = create_model(config.model.backbone, num_classes=1, head="dropout")
    strategy = create_strategy("sequence", model, **config.train.options)
    _, last = strategy.phases
    trained = [p for p in last.groups[0].patterns if p.endswith(".kernel")]
    # Keras calls it block_11_depthwise: the layer 100 of its 154.
    assert trained[0] == "backbone.features.12.conv.1.0.kernel"
    head, last = strategy.summary(model)
    assert (head["epochs"], last["epochs"]) == (10, 10)
    assert (head["trainable"], config.model.dropout) == (1280 + 1, 0.2)
    assert rates_of(last) == {"last layers": 1e-5, "head": 1e-5}
    assert last["frozen_bn_stats"]


@pytest.mark.slow
def test_image_folder_toy_draws_its_own_images(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    folders = run("image_folder_toy", tmp_path, *SHORT)
    head, last = phases_of(folders["two_phase"])
    assert (rates_of(head), optimizers_of(head)) == ({"head": 3e-3}, {"adamw"})
    assert head["schedule"] == "cosine by epoch"
    assert parts_of("image_folder_toy")[0]["epochs"] == 5
    assert rates_of(last) == {"layer4": 5e-5, "head": 5e-4}
    assert last["frozen_bn_stats"] == ["backbone"]
    (drawn,) = (tmp_path / "cache" / "cells").iterdir()
    assert len(list(drawn.glob("train/*/*.png"))) == 80
    config = arms_of("image_folder_toy")["two_phase"]
    assert (config.model.backbone, config.augment.preset) == ("resnet18", "zoom_flip")


@pytest.mark.slow
def test_pneumonia(radiographs, tmp_path):
    name = "chest_xray_pneumonia"
    source = ("--data.source", f"folder:{radiographs}")
    folders = run(name, tmp_path, *source, *SHORT, explained=2)
    head, last = phases_of(folders["two_phase"])
    assert (rates_of(head), optimizers_of(head)) == ({"head": 2e-3}, {"adamw"})
    assert (head["schedule"], last["schedule"]) == ("one cycle", "cosine by epoch")
    assert (rates_of(last), optimizers_of(last)) == (
        {"layer4": 1e-4, "head": 5e-4},
        {"sgd"},
    )
    metrics = json.loads((folders["two_phase"] / "metrics.json").read_text("utf-8"))
    assert metrics["threshold"]["method"] == "youden"
    assert metrics["threshold"]["chosen_on"] == "val"
    assert len(list((folders["two_phase"] / "cams").glob("*.png"))) == 2
    export = ["export", str(folders["two_phase"]), "--format", "safetensors"]
    assert main(export) == 0

    head, last = parts_of(name)
    assert (head["epochs"], last["epochs"], last["momentum"]) == (5, 10, 0.9)
    arms = arms_of(name)
    for config in arms.values():
        train = config.train
        assert (train.class_weights, train.sampling) == ("balanced", "balanced")
        assert (train.select, config.model.backbone) == ("val_loss", "resnet50")
    assert arms["two_phase"].model.weights == "IMAGENET1K_V2"
