"""The whole path on small drawn images: every file, again, and after a loss."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.checkpoints.checkpoint import open_checkpoints
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.runtime.locks import locked
from jaxmed.runtime.toml import read_toml

RECIPE = """
description = "Which channel is bright?"
[data]
source = "npz:{data}"
image_size = 96
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 16
[evaluate]
resamples = 100
[explain]
images = 3
[arms.full]
augment.preset = "zoom_flip"
train.strategy = "full"
train.options = {{ epochs = 2, learning_rate = 1e-3 }}
[arms.again]
model.weights = "run:channels/full/seed-0"
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
[[expect]]
arm = "full"
metric = "train_accuracy"
value = [0.5, 0.9]
source = "nobody"
"""
RUNS = ("full/seed-0", "again/seed-0")


def draw(path: Path) -> None:
    """Writes images in which the class's channel is brighter than the others."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 48), ("val", 18), ("test", 15)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 28, 28, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels] += 60
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with recipe and data, and the finished experiment in `out`."""
    folder = tmp_path_factory.mktemp("experiment")
    draw(folder / "channels.npz")
    text = RECIPE.format(data=folder / "channels.npz")
    (folder / "channels.toml").write_text(text)
    assert run(folder) == 0
    return folder


def run(folder: Path, *flags: str) -> int:
    return main(
        ["run", str(folder / "channels.toml"), "--out", str(folder / "out"), *flags]
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an experiment but those that the report rewrites."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "figures" not in path.parts and path.suffix != ".html"
    }


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("run_name", RUNS)
def test_every_file_of_the_run_folder_is_there(finished, run_name):
    folder = finished / "out" / "channels" / run_name
    arm = run_name.partition("/")[0]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["arms"] == {arm: {}}
    assert config["train"]["seeds"] == [0]

    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data"]["sizes"] == {"train": 48, "val": 18, "test": 15}
    assert len(environment["data"]["fingerprint"]) == 64
    assert environment["parameters"]["total"] == 309_843
    assert environment["arms"] == ["full", "again"]
    assert environment["preprocessing"] == {
        "image_size": 96,
        "channels": 3,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resizing": {"mode": "squash", "factor": 256 / 224},
        "window": {"setting": "auto", "limits": None},
    }
    ops = ["RandomResizedCrop", "HorizontalFlip"] if arm == "full" else []
    assert [op["op"] for op in environment["augmentation"]] == ops
    assert (folder / "augmented.png").exists() == bool(ops)
    assert environment["seconds"] > 0

    history = list(csv.DictReader(read_lines(folder / "history.csv")))
    assert len(history) == (2 if arm == "full" else 1)
    assert list(history[0])[:3] == ["phase", "epoch", "step"]
    assert list(history[0])[-2:] == ["seconds", "images_per_second"]

    predictions = list(csv.DictReader(read_lines(folder / "predictions.csv")))
    assert [row["split"] for row in predictions] == ["val"] * 18 + ["test"] * 15
    metrics = json.loads((folder / "metrics.json").read_text())
    right = [
        int(row["label"]) == np.argmax([float(row[f"prob_{c}"]) for c in range(3)])
        for row in predictions
        if row["split"] == "test"
    ]
    assert metrics["test"]["accuracy"]["value"] == pytest.approx(np.mean(right))

    cams = json.loads((folder / "cams" / "cams.json").read_text())
    assert len(cams) == 3
    for cam in cams:
        with Image.open(folder / cam["file"]) as picture:
            assert picture.width >= 2 * picture.height
        assert cam["correct"] == (cam["true"] == cam["predicted"])
    assert any((folder / "checkpoints").iterdir())
    assert list((folder / "figures").glob("*.png"))


def test_report_compares_the_arms_with_the_published_numbers(finished):
    page = (finished / "out" / "channels" / "report.html").read_text()
    for words in ("channels", "Which channel is bright?", "again", "nobody"):
        assert words in page
    assert (finished / "out" / "channels" / "samples.png").is_file()


def test_nothing_half_written_stays(finished):
    assert not list((finished / "out").rglob(".unfinished-*"))


def test_weights_of_the_earlier_run_were_used(finished):
    from jaxmed.checkpoints.checkpoint import load_best_weights

    runs = finished / "out" / "channels"
    before, _ = load_best_weights(runs / "full/seed-0/checkpoints")
    after, _ = load_best_weights(runs / "again/seed-0/checkpoints")
    # The second arm is frozen, so its backbone is still the first arm's.
    backbone = [path for path in before if path.startswith("backbone.")]
    assert len(backbone) > 10
    for path in backbone:
        np.testing.assert_array_equal(before[path], after[path])
    environment = json.loads((runs / "again/seed-0/environment.json").read_text())
    assert len(environment["weights"]["fingerprint"]) == 64


def test_a_finished_run_is_skipped_and_left_as_it_is(finished, capsys):
    before = contents(finished / "out")
    assert run(finished) == 0
    said = capsys.readouterr().out
    for name in RUNS:
        assert f"Finished already, skipped: {finished}/out/channels/{name}" in said
    assert said.rstrip().endswith(f"Report: {finished}/out/channels/report.html")
    assert contents(finished / "out") == before


def test_the_written_configuration_is_accepted_back(finished, capsys):
    path = finished / "out" / "channels" / "again" / "seed-0" / "config.toml"
    assert main(["run", str(path), "--out", str(finished / "out")]) == 0
    assert "Finished already, skipped" in capsys.readouterr().out


def test_a_lost_file_is_made_again_without_training(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    runs = tmp_path / "out" / "channels"
    folder = runs / "full" / "seed-0"
    before = contents(folder)
    (folder / "metrics.json").unlink()
    (folder / "predictions.csv").unlink()
    # The recipe of the copy still names the images of the original.
    assert run(tmp_path) == 0
    captured = capsys.readouterr()
    assert f"skipped: {runs}/again" in captured.out
    assert "all 1/2" not in captured.err
    after = contents(folder)
    assert after.keys() == before.keys()
    same = ("metrics.json", "predictions.csv", "history.csv", "config.toml")
    for name in same:
        assert after[name] == before[name]


def test_an_interrupted_run_says_how_to_go_on_and_ends_the_same(finished, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jaxmed.experiments", "run"]
    command += [finished / "channels.toml", "--out", out, "--arms", "full"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    folder = out / "channels" / "full" / "seed-0"
    while process.poll() is None and not (folder / "environment.json").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "Interrupted. The same command goes on where it stopped."
    )
    assert not (folder / "metrics.json").exists()

    recipe = str(finished / "channels.toml")
    assert main(["run", recipe, "--out", str(out), "--arms", "full"]) == 0
    whole = finished / "out" / "channels" / "full" / "seed-0"
    for name in ("config.toml", "predictions.csv", "metrics.json", "cams/cams.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_report_is_rebuilt_from_the_stored_files(finished, capsys):
    experiment = finished / "out" / "channels"
    page = (experiment / "report.html").read_bytes()
    for folder in (experiment, experiment / "full" / "seed-0"):
        (experiment / "report.html").unlink()
        shutil.rmtree(experiment / "full" / "seed-0" / "figures")
        assert main(["report", str(folder)]) == 0
        assert "report.html" in capsys.readouterr().out
        assert (experiment / "report.html").read_bytes() == page


def test_figures_and_tables_are_exported(finished, capsys):
    experiment = finished / "out" / "channels"
    before = {path.name for path in experiment.iterdir()}
    formats = "latex, csv"
    assert main(["report", str(experiment), "--format", formats]) == 0
    assert str(experiment / "tables") in capsys.readouterr().out
    assert {path.name for path in experiment.iterdir()} == before | {"tables"}
    assert (experiment / "tables" / "summary.csv").read_text().startswith(",full")
    assert (experiment / "tables" / "summary.tex").exists()
    shutil.rmtree(experiment / "tables")


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        ("html,pdff", "Unknown format 'pdff'. Did you mean 'pdf'?"),
        (",", "--format names no format; there are html, pdf, csv, latex."),
    ],
)
def test_a_format_that_there_is_not_is_refused(finished, capsys, formats, said):
    experiment = finished / "out" / "channels"
    before = sorted(experiment.rglob("*"))
    assert main(["report", str(experiment), "--format", formats]) == 2
    assert said in capsys.readouterr().err
    assert sorted(experiment.rglob("*")) == before


def test_few_training_images_are_the_same_for_every_seed(finished, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ("--data.train-images", "12", "--train.seeds", "0,1", "--arms", "full")
    flags += ("--train.options.epochs", "1", "--out", str(out))
    assert main(["run", str(finished / "channels.toml"), *flags]) == 0
    said = capsys.readouterr().out
    assert said.count(": 12 of 48 training images, drawn with seed 0\n") == 1
    data = [
        json.loads((out / f"channels/full/seed-{seed}/environment.json").read_text())
        for seed in (0, 1)
    ]
    assert data[0]["data"] == data[1]["data"]
    assert data[0]["data"]["sizes"] == {"train": 12, "val": 18, "test": 15}
    whole = finished / "out/channels/full/seed-0/environment.json"
    before = json.loads(whole.read_text())["data"]["fingerprint"]
    assert data[0]["data"]["fingerprint"] != before


def test_another_seed_is_added_beside_the_first(finished, capsys):
    flags = ("--arms", "again", "--train.seeds", "0,1")
    assert run(finished, *flags) == 0
    assert "again/seed-0\n" in capsys.readouterr().out
    folder = finished / "out" / "channels" / "again" / "seed-1"
    assert read_toml(folder / "config.toml")["train"]["seeds"] == [1]
    assert (folder / "metrics.json").is_file()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ("--train.batch-size", "8"),
            "holds another configuration: train.batch_size is 16 there and 8 here",
        ),
        (
            ("--train.options.weight-decay", "0.1"),
            "train.options.weight_decay is not set there and 0.1 here",
        ),
    ],
)
def test_another_configuration_is_refused_and_nothing_touched(
    finished, capsys, flags, expected
):
    before = contents(finished / "out")
    assert run(finished, *flags) == 2
    assert expected in capsys.readouterr().err
    assert contents(finished / "out") == before


def test_weights_of_a_run_of_another_architecture_are_refused(
    finished, tmp_path, capsys
):
    folder = finished / "out" / "channels" / "full" / "seed-0"
    flags = (f"run:{folder}", "--model.backbone", "resnet18", "--arms", "full")
    recipe = str(finished / "channels.toml")
    out = ("--out", str(tmp_path / "out"))
    assert main(["run", recipe, *out, "--model.weights", *flags]) == 2
    said = capsys.readouterr().err
    assert "with model.backbone resnet10_narrow, and model.backbone is resnet18" in said
    assert not (tmp_path / "out").exists()


def test_weights_to_be_trained_first_must_fit_too(finished, tmp_path, capsys):
    first = finished / "channels.toml"
    path = tmp_path / "later.toml"
    text = first.read_text().replace("resnet10_narrow", "resnet18", 1)
    path.write_text(f'needs = ["{first}"]\n{text}')
    out = ("--out", str(tmp_path / "out"))
    assert main(["run", str(path), *out, "--arms", "again"]) == 2
    said = capsys.readouterr().err
    assert "will be of a resnet10_narrow, and model.backbone is resnet18" in said
    assert not (tmp_path / "out").exists()


def test_changed_images_are_noticed_before_a_run_goes_on(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "out" / "channels" / "full" / "seed-0"
    (folder / "metrics.json").unlink()
    path = folder / "environment.json"
    environment = json.loads(path.read_text())
    environment["data"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(environment))
    before = contents(tmp_path / "out")
    assert run(tmp_path) == 2
    assert "The images changed since the run" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_a_second_run_in_the_folder_leaves_the_first_alone(finished, tmp_path, capsys):
    """It used to remove the checkpoint that the first was writing."""
    recipe, out = str(finished / "channels.toml"), tmp_path / "out"
    command = ["run", recipe, "--out", str(out), "--arms", "full"]
    command += ["--train.options.epochs", "300"]
    first = subprocess.Popen([sys.executable, "-m", "jaxmed.experiments", *command])
    folder = out / "channels" / "full" / "seed-0"
    try:
        while first.poll() is None and not list(folder.glob("checkpoints/1")):
            time.sleep(0.05)
        capsys.readouterr()
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"{folder} is in use by process {first.pid} on " in said
        assert main(["predict", str(folder), str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert f"is not finished: process {first.pid} on " in said
        assert main(["report", str(folder)]) == 2
        assert "no finished run" in capsys.readouterr().err
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=120) == 143
    finally:
        first.kill()
        first.wait()
    # Its checkpoints are whole, and whoever comes next goes on from them.
    assert not list(folder.rglob("damaged-*"))
    with locked(folder):
        pass


def test_two_trainings_with_the_same_checkpoints_are_refused(tmp_path):
    with (
        open_checkpoints(tmp_path),
        pytest.raises(InputError, match="in use by process"),
        open_checkpoints(tmp_path),
    ):
        pass
