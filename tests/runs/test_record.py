"""Tests of the reading of run folders."""

import json
import math
import shutil
from pathlib import Path

import pytest

from jaxmed.errors import InputError
from jaxmed.report import build_report, read_run
from jaxmed.runs.record import read_experiment


@pytest.fixture
def run_folder(multiclass_folder: Path, tmp_path: Path) -> Path:
    """A copy of a whole run that a test may damage."""
    folder = tmp_path / "experiment" / "frozen" / "seed-3"
    shutil.copytree(multiclass_folder / "frozen" / "seed-3", folder)
    return folder


def test_run_is_read_whole(run_folder: Path):
    run = read_run(run_folder)
    assert (run.arm, run.seed, run.task) == ("frozen", 3, "multiclass")
    assert run.metrics == json.loads((run_folder / "metrics.json").read_text())
    assert len(run.predictions["test"].ids) == run.metrics["test"]["n"] == 160
    assert [row.phase for row in run.history] == ["head"] * 3 + ["all"] * 5
    assert math.isnan(run.history[0]["lr_backbone"])
    assert run.history[3]["lr_backbone"] == 1e-5
    assert len(run.cams) == 8
    # Epoch 4 of the second phase, after three epochs of the first.
    assert run.best_row == 6


def test_only_metrics_and_predictions_are_needed(run_folder: Path):
    for name in ("history.csv", "environment.json", "config.toml"):
        (run_folder / name).unlink()
    shutil.rmtree(run_folder / "cams")
    run = read_run(run_folder)
    assert run.history == ()
    assert run.cams == ()
    assert (run.environment, run.config, run.best_row) == ({}, "", None)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("metrics.json", "}", "", "not valid JSON"),
        ("metrics.json", '"per_class"', '"klass"', "'per_class' is missing"),
        ("metrics.json", '"multiclass"', '"multiclas"', "'multiclass'"),
        ("metrics.json", '"n": 160', '"n": 161', "161 val images"),
        ("predictions.csv", "val/000000", "val/000001", "val/000001"),
        (
            "predictions.csv",
            "val/000000",
            "val/other",
            "that metrics.json was computed from",
        ),
        ("history.csv", "head,1,147,", "head,1,oops,", "row 2"),
        ("environment.json", "{", "[", "environment.json"),
        ("cams/cams.json", '"probability"', '"p"', "entry 0"),
    ],
)
def test_damage_is_a_sentence(run_folder: Path, file, old, new, words):
    path = run_folder / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(InputError) as error:
        build_report(run_folder.parents[1], title="damaged")
    assert words in str(error.value)
    assert not list(run_folder.parents[1].glob("report*"))


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv"])
def test_an_unfinished_run_is_refused(run_folder: Path, name: str):
    (run_folder / name).unlink()
    with pytest.raises(InputError, match=name):
        read_run(run_folder)


def test_missing_and_unreadable_cam_are_named(run_folder: Path):
    picture = run_folder / "cams" / "000.png"
    picture.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000\.png is not an image"):
        build_report(run_folder.parents[1], title="damaged")
    picture.unlink()
    with pytest.raises(InputError, match=r"000\.png, which is missing"):
        read_run(run_folder)


def test_arms_come_in_the_order_asked_for(binary_folder: Path):
    arms, unfinished = read_experiment(binary_folder)
    assert [arm.name for arm in arms] == ["scratch", "two_phase"]
    assert [run.seed for run in arms[0].runs] == [0, 1]
    assert unfinished == ()
    arms, _ = read_experiment(binary_folder, ["two_phase"])
    assert [arm.name for arm in arms] == ["two_phase", "scratch"]


def test_unfinished_runs_are_listed(run_folder: Path):
    (run_folder.parents[1] / "full" / "seed-0").mkdir(parents=True)
    arms, unfinished = read_experiment(run_folder.parents[1])
    assert [arm.name for arm in arms] == ["frozen"]
    assert unfinished == ("full/seed-0",)


def test_folder_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no finished run"):
        build_report(tmp_path, title="empty")


def test_runs_about_other_classes_are_refused(run_folder: Path, binary_folder: Path):
    other = run_folder.parents[1] / "scratch" / "seed-0"
    shutil.copytree(binary_folder / "scratch" / "seed-0", other)
    with pytest.raises(InputError, match="not about the same classes"):
        read_experiment(run_folder.parents[1])
