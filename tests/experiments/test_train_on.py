"""Training on from a finished run: more epochs of the same, or with its head."""

import csv
import hashlib
import tomllib

import numpy as np
import pytest

from jaxmed.experiments.__main__ import main

RECIPE = """
[data]
source = "npz:{folder}/bright.npz"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 8
ema = 0.5
strategy = "full"
options = {{ epochs = 1, learning_rate = 1e-3 }}
[evaluate]
resamples = 100
[explain]
images = 0
[arms.first]
[arms.second]
model.weights = "run:bright/first/seed-0"
model.keep_head = true
train.strategy = "frozen"
train.options = {{ epochs = 1, learning_rate = 0.0 }}
"""
RUN = "bright/first/seed-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of which half are brighter, and a recipe with its first arm finished."""
    folder = tmp_path_factory.mktemp("on")
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        labels = np.arange(count) % 2
        images = random.integers(0, 120, (count, 28, 28), dtype=np.uint8)
        images += (60 * labels).astype(np.uint8)[:, None, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(folder / "bright.npz", **arrays)
    (folder / "bright.toml").write_text(RECIPE.format(folder=folder))
    assert run(folder, "out", "--arms", "first") == 0
    return folder


def run(folder, out, *flags):
    return main(["run", f"{folder}/bright.toml", "--out", f"{folder}/{out}", *flags])


def longer(epochs, *flags):
    return "--arms", "first", "--train.options.epochs", str(epochs), *flags


def files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def history(folder):
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


def test_a_finished_run_is_extended_as_if_it_had_been_asked_for_at_once(folder):
    assert run(folder, "whole", *longer(3)) == 0
    assert run(folder, "extended", *longer(1)) == 0
    assert run(folder, "extended", *longer(3, "--extend")) == 0
    whole, extended = folder / "whole" / RUN, folder / "extended" / RUN
    assert len(history(extended)) == 3
    assert history(extended) == history(whole)
    for name in ("predictions.csv", "metrics.json"):
        assert (extended / name).read_bytes() == (whole / name).read_bytes(), name
    config = tomllib.loads((extended / "config.toml").read_text())
    assert config["train"]["options"]["epochs"] == 3
    # Nothing is left to do.
    before = files(extended)
    assert run(folder, "extended", *longer(3, "--extend")) == 0
    assert files(extended) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (longer(3), "epochs is 1 there and 3 here. Give another --out, --extend"),
        (longer(3, "--extend", "--train.options.learning-rate", "0.1"), "ing_rate was"),
        (longer(3, "--extend", "--train.batch-size", "4"), "train.batch_size is 8"),
        (longer(3, "--extend", "--train.options.optimizer", "sgd"), "name was 'adam'"),
        (longer(3, "--extend", "--train.options.schedule", "cosine"), "schedule.name"),
    ],
)  # fmt: skip
def test_another_training_is_no_extension_and_changes_nothing(
    folder, capsys, flags, words
):
    before = files(folder / "out" / RUN)
    assert run(folder, "out", *flags) == 2
    assert words in capsys.readouterr().err
    assert files(folder / "out" / RUN) == before


def probabilities(folder):
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    return [
        {k: v for k, v in row.items() if k.startswith(("prob", "id"))} for row in rows
    ]


def test_a_head_is_kept_to_the_bit(folder):
    """The second arm trains with a rate of 0: it ends as it began."""
    assert run(folder, "out", "--arms", "second") == 0
    second = folder / "out" / "bright" / "second" / "seed-0"
    assert probabilities(second) == probabilities(folder / "out" / RUN)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model.weights", "none"), "model.keep_head is for the weights of a run"),
        (("--model.head", "hidden"), "has another head (head.hidden.bias"),
        (("--model.single-logit", "true"), "has another head (head.out.bias"),
        (("--data.source", "npz:{}/other.npz"), "model.keep_head: the classes of run:"),
    ],
)
def test_a_head_of_something_else_is_refused(folder, tmp_path, capsys, flags, words):
    arrays = dict(np.load(folder / "bright.npz"))
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = (
            np.arange(len(arrays[f"{split}_labels"]))[:, None] % 3
        )
    np.savez(folder / "other.npz", **arrays)
    flags = [flag.format(folder) for flag in flags]
    if "--model.weights" not in flags:
        flags += ["--model.weights", f"run:{folder}/out/{RUN}"]
    assert run(folder, "refused", "--arms", "second", *flags) == 2
    assert words in capsys.readouterr().err


def test_a_head_that_will_be_another_is_refused_before_training(folder, capsys):
    flags = ("--arms.first.model.head", "hidden")
    assert run(folder, "later", *flags) == 2
    said = capsys.readouterr().err
    assert "will have model.head hidden, and here it is linear" in said
    assert not (folder / "later").exists()
