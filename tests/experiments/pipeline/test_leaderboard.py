"""All cells of a recipe of several sets, in one command: tiny sets of every task."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxmed.evaluation import read_predictions
from jaxmed.experiments.__main__ import main

RECIPE = """
description = "Sets of every task"
source = "nobody"
[data]
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 16
checkpoint_steps = 1
options = {{ epochs = 2, learning_rate = 1e-3 }}
[evaluate]
resamples = 100
[explain]
images = 0
[sets]
binary.data.source = "npz:{folder}/two.npz"
lost.data.source = "npz:{folder}/lost.npz"
multiclass.data.source = "npz:{folder}/three.npz"
multilabel.data.source = "npz:{folder}/labels.npz"
ordinal.data.source = "npz:{folder}/retinamnist-drawn.npz?task=ordinal"
[arms.frozen]
train.strategy = "frozen"
[arms.single]
train.strategy = "frozen"
model.single_logit = true
[published]
source = "Somebody 2023"
methods = ["ResNet-18 (28)", "ResNet-50 (28)"]
auroc.binary = [0.901, 0.857]
auroc.ordinal = [0.717, nan]
accuracy.binary = [0.863, 0.812]
"""
SETS = ("binary", "multiclass", "multilabel", "ordinal")
# A single logit is for binary tasks, and the images of `lost` are not there.
CELLS = ["binary/frozen/seed-0", "binary/single/seed-0"]
CELLS += [f"{name}/frozen/seed-0" for name in SETS[1:]]
# The spellings of medmnist's own table.
TASKS = {
    "binary": "binary-class",
    "multiclass": "multi-class",
    "multilabel": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}


# A board of four sets is trained; the page alone is tested with the report.
pytestmark = pytest.mark.slow


def draw(path: Path, classes: int, several: bool = False) -> None:
    """Writes noise, brighter in the rows of the class, or of each label."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 40), ("val", 20), ("test", 25)):
        labels = np.arange(count)[:, None] % classes
        member = np.eye(classes, dtype=np.uint8)[labels[:, 0]]
        if several:
            labels = member = rng.integers(0, 2, (count, classes), dtype=np.uint8)
        rows = np.repeat(member, 28 // classes, axis=1)
        images = rng.integers(0, 160, (count, 28, 28), dtype=np.uint8)
        images[:, : rows.shape[1]] += 50 * rows[:, :, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the recipe, and the images of all sets but one."""
    folder = tmp_path_factory.mktemp("leaderboard")
    draw(folder / "two.npz", 2)
    draw(folder / "three.npz", 3)
    draw(folder / "labels.npz", 3, several=True)
    draw(folder / "retinamnist-drawn.npz", 5)
    (folder / "board.toml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> Path:
    """The board's folder after one command, of which a set could not be loaded."""
    out = tmp_path_factory.mktemp("out")
    assert run(folder, out) == 3
    return out / "board"


def run(folder: Path, out: Path, *flags: str) -> int:
    return main(["run", str(folder / "board.toml"), "--out", str(out), *flags])


def read_rows(board: Path) -> list[dict[str, str]]:
    with (board / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_one_command_makes_every_cell(finished):
    made = [str(path.parent.relative_to(finished)) for path in _metrics(finished)]
    assert sorted(made) == sorted(CELLS)
    for name in SETS:
        assert (finished / name / "report.html").is_file()
    tasks = {row["set"]: row["task"] for row in read_rows(finished)}
    assert tasks == {name: name for name in SETS}


def _metrics(board: Path) -> list[Path]:
    return sorted(board.glob("*/*/seed-*/metrics.json"))


def test_what_fails_is_told_and_stops_nothing_else(folder, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in _metrics(finished)}
    page = (finished / "leaderboard.html").read_bytes()
    table = (finished / "leaderboard.csv").read_bytes()
    assert run(folder, finished.parent) == 3
    said = capsys.readouterr()
    for cell in CELLS:
        assert f"Finished already, skipped: {finished}/{cell}\n" in said.out
    told = said.err.splitlines()
    assert told[0] == "5 failed:"
    assert told[1].startswith("lost/frozen/seed-0, lost/single/seed-0: The npz file ")
    assert f"{folder}/lost.npz does not exist" in told[1]
    for line, name in zip(told[2:], SETS[1:], strict=True):
        assert line.startswith(f"{name}/single/seed-0: Arm single: model.single_logit")
        assert f" is {name}." in line
    assert not (finished / "lost").exists()
    assert "No finished run: lost." in page.decode()
    # Nothing was done again, and the page is the same.
    assert {path: path.stat().st_mtime_ns for path in _metrics(finished)} == before
    assert (finished / "leaderboard.html").read_bytes() == page
    assert (finished / "leaderboard.csv").read_bytes() == table


def test_numbers_are_the_runs_and_the_published_ones(finished):
    rows = read_rows(finished)
    measured = [row for row in rows if row["source"] == "measured"]
    assert [f"{r['set']}/{r['method']}/seed-{r['seed']}" for r in measured] == CELLS
    for row, cell in zip(measured, CELLS, strict=True):
        test = read_metrics(finished / cell)["test"]
        assert int(row["test_images"]) == test["n"] == 25
        for metric in ("auroc", "accuracy"):
            assert float(row[metric]) == test[metric]["value"]
            for end in ("ci_low", "ci_high"):
                assert float(row[f"{metric}_{end}"]) == test[metric][end]
    published = [row for row in rows if row["source"] == "Somebody 2023"]
    assert [
        (row["set"], row["method"][7:9], row["auroc"], row["accuracy"])
        for row in published
    ] == [
        ("binary", "18", "0.901", "0.863"),
        ("binary", "50", "0.857", "0.812"),
        ("multiclass", "18", "", ""),
        ("multiclass", "50", "", ""),
        ("multilabel", "18", "", ""),
        ("multilabel", "50", "", ""),
        ("ordinal", "18", "0.717", ""),
        ("ordinal", "50", "", ""),
    ]
    assert len(rows) == len(measured) + len(published)


def test_numbers_are_what_medmnist_computes(finished, tmp_path, monkeypatch):
    # Importing medmnist makes a folder in the user's home.
    monkeypatch.setenv("HOME", str(tmp_path))
    pytest.importorskip("medmnist", reason="MedMNIST's own evaluator is the oracle")
    evaluator = importlib.import_module("medmnist.evaluator")
    rows = [row for row in read_rows(finished) if row["seed"].isdecimal()]
    assert len(rows) == len(CELLS)
    for row, cell in zip(rows, CELLS, strict=True):
        metrics = read_metrics(finished / cell)
        predictions = read_predictions(
            finished / cell / "predictions.csv",
            class_names=tuple(metrics["class_names"]),
            task=metrics["task"],
        )["test"]
        found = (predictions.labels, predictions.probs, TASKS[row["task"]])
        assert float(row["auroc"]) == pytest.approx(evaluator.getAUC(*found), abs=1e-9)
        assert float(row["accuracy"]) == pytest.approx(
            evaluator.getACC(*found), abs=1e-9
        )


@pytest.mark.slow
def test_a_killed_command_goes_on_and_gives_the_same_numbers(
    folder, finished, tmp_path, capsys
):
    command = [sys.executable, "-m", "jaxmed.experiments", "run"]
    flags = ("--sets", "lost,binary")
    command += [folder / "board.toml", "--out", tmp_path, *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    board = tmp_path / "board"
    # In the middle of the second run: its first checkpoint is there.
    second = board / CELLS[1] / "checkpoints"
    while process.poll() is None and not list(second.glob("[0-9]*")):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in _metrics(board)}
    assert [str(path.parent.relative_to(board)) for path in done] == CELLS[:1]

    assert run(folder, tmp_path, *flags) == 3
    assert capsys.readouterr().out.count("Finished already, skipped") == 1
    assert {path: path.stat().st_mtime_ns for path in done} == done
    whole = [row for row in read_rows(finished) if row["set"] == "binary"]
    assert read_rows(board) == whole
    toml = "leaderboard.toml"
    assert (board / toml).read_bytes() == (finished / toml).read_bytes()


def test_nothing_but_failures_is_an_error(folder, tmp_path, capsys):
    assert run(folder, tmp_path, "--sets", "lost") == 2
    said = capsys.readouterr().err
    assert (
        "Error: No run could be made. lost/frozen/seed-0, lost/single/seed-0: " in said
    )
    assert not list(tmp_path.rglob("leaderboard.csv"))


def test_report_works_on_a_board_and_compare_on_a_set(finished, capsys):
    page, table = finished / "leaderboard.html", finished / "leaderboard.csv"
    before = page.read_bytes(), table.read_bytes()
    page.unlink()
    table.unlink()
    assert main(["report", str(finished)]) == 0
    assert f"Leaderboard: {page}" in capsys.readouterr().out
    assert (page.read_bytes(), table.read_bytes()) == before
    assert main(["report", str(finished), "--format", "pdf"]) == 2
    assert "--format pdf is for one" in capsys.readouterr().err
    assert main(["compare", str(finished / "binary"), "--resamples", "100"]) == 0
    assert "single − frozen" in capsys.readouterr().out


def test_a_cell_is_run_again_from_its_own_configuration(finished, capsys):
    path = finished / "binary" / "single" / "seed-0" / "config.toml"
    assert main(["run", str(path), "--out", str(finished.parent)]) == 0
    said = capsys.readouterr().out
    assert f"Finished already, skipped: {path.parent}\n" in said
