"""A trained run's numbers and maps made again, without training it again."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from jaxmed.evaluation.predictions_csv import read_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.runtime.locks import locked

RECIPE = """
name = "again"
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 16
strategy = "frozen"
options = {{ epochs = 2, learning_rate = 1e-2, batch_norm = "train" }}
[evaluate]
resamples = 100
[explain]
images = 2
"""
KEPT = ("checkpoints", "history.csv", "out_of_distribution.npz", "split.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 24), ("test", 24)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 200, (count, 28, 28)) + 25 * labels[:, None, None]
        arrays[f"{split}_images"] = pixels.astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(folder / "data.npz", **arrays)
    (folder / "again.toml").write_text(RECIPE.format(data=folder / "data.npz"))
    assert main(["run", str(folder / "again.toml"), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the run, in an experiment's folder of its own."""
    shutil.copytree(trained / "again", tmp_path / "again")
    return tmp_path / "again" / "main" / "seed-0"


def again(trained: Path, run: Path, *flags: str) -> int:
    return main(
        ["run", str(trained / "again.toml"), "--out", str(run.parents[2]), *flags]
    )


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and "figures" not in path.parts
    }


def kept(run: Path) -> dict[str, bytes]:
    return {n: c for n, c in contents(run).items() if n.startswith(KEPT)}


def read(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_another_threshold_is_taken_from_the_stored_predictions(
    trained, run, capsys, monkeypatch
):
    # The images are away, so nothing can be trained or predicted.
    monkeypatch.setattr("jaxmed.experiments.pipeline.load_data.read_source", None)
    before, metrics = contents(run), read(run)
    flags = ("--evaluate.threshold", "cost", "--evaluate.cost", "5")
    capsys.readouterr()
    assert again(trained, run, *flags) == 0
    said = capsys.readouterr().out
    assert (
        f"Trained already, only evaluated again: {run}; evaluate.threshold is 'cost' "
        "(was 'youden'), evaluate.cost is 5.0 (was 1.0)\n" in said
    )
    after, found = contents(run), read(run)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        "config.toml", "environment.json", "metrics.json", "MODEL_CARD.md"
    }  # fmt: skip
    assert found["threshold"]["method"] == "cost"
    assert found["test"]["auroc"] == metrics["test"]["auroc"]
    config = tomllib.loads(after["config.toml"].decode())
    assert (config["evaluate"]["threshold"], config["evaluate"]["cost"]) == ("cost", 5)
    # What the threshold costs on val, by scikit-learn, is the least of all.
    val = read_predictions(
        run / "predictions.csv", class_names=("0", "1"), task="binary"
    )["val"]

    def cost(at: float) -> float:
        (_, false_alarms), (missed, _) = confusion_matrix(
            val.labels, val.probs[:, 1] >= at
        )
        return 5 * missed + false_alarms

    assert cost(found["threshold"]["value"]) == min(map(cost, val.probs[:, 1]))
    # Asked again, nothing is left to do.
    assert again(trained, run, *flags) == 0
    assert "Finished already, skipped" in capsys.readouterr().out
    assert contents(run) == after
    # And back.
    assert again(trained, run) == 0
    assert read(run) == metrics


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (("--explain.images", "3"), {"cams/cams.json", "config.toml"}),
        (("--explain.method", "layer_cam"), {"cams/cams.json", "config.toml"}),
        (("--evaluate.tta", "flip"), {"predictions.csv", "metrics.json"}),
    ],
)
def test_what_needs_the_model_takes_it_from_the_checkpoint(
    trained, run, capsys, flags, changed
):
    before = contents(run)
    capsys.readouterr()
    assert again(trained, run, *flags) == 0
    captured = capsys.readouterr()
    assert (
        f"Trained already, not trained again: {run}; {flags[0][2:]} is" in captured.out
    )
    assert "all 1/2" not in captured.err
    assert kept(run) == {n: c for n, c in before.items() if n.startswith(KEPT)}
    after = contents(run)
    assert changed <= {name for name in after if after[name] != before.get(name)}
    if flags[0].startswith("--explain"):
        for name in ("predictions.csv", "metrics.json"):
            assert after[name] == before[name]
    if flags[0] == "--explain.images":
        assert len(json.loads(after["cams/cams.json"])) == 3


def test_a_setting_of_the_training_is_refused_beside_one_of_the_evaluation(
    trained, run, capsys
):
    before = contents(run)
    flags = ("--evaluate.threshold", "f1", "--train.batch-size", "8")
    assert again(trained, run, *flags) == 2
    assert "train.batch_size is 16 there and 8 here" in capsys.readouterr().err
    assert contents(run) == before


def test_report_makes_numbers_anew_by_todays_code(run, capsys):
    metrics = read(run)
    old = metrics | {"threshold": metrics["threshold"] | {"method": "of old"}}
    (run / "metrics.json").write_text(json.dumps(old))
    assert main(["report", "--reevaluate", str(run.parents[1])]) == 0
    said = capsys.readouterr().out
    assert f"Evaluated again: {run}\nReport: " in said
    assert read(run) == metrics
    environment = json.loads((run / "environment.json").read_text())
    assert environment["evaluated_by"]["jaxmed"] == environment["jaxmed"]
    page = (run.parents[1] / "report.html").read_bytes()
    assert main(["report", "--reevaluate", str(run)]) == 0
    assert (run.parents[1] / "report.html").read_bytes() == page


def lose_metrics(run: Path) -> None:
    (run / "metrics.json").unlink()


def lose_test(run: Path) -> None:
    path = run / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("test")))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose_metrics, "has no finished run"),
        (lose_test, "has no predictions on test"),
        (lambda run: (run / "predictions.csv").unlink(), "has no predictions yet"),
        (lambda run: (run / "environment.json").write_text("{}"), "KeyError('data')"),
    ],
)
def test_what_cannot_be_evaluated_is_left_as_it_is(run, capsys, harm, said):
    harm(run)
    before = contents(run)
    assert main(["report", "--reevaluate", str(run.parents[1])]) == 2
    assert said in capsys.readouterr().err
    assert contents(run) == before


def test_edited_predictions_are_not_evaluated(run, capsys):
    path = run / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))
    before = contents(run)
    assert main(["report", "--reevaluate", str(run)]) == 2
    assert (
        "is not the file that metrics.json was computed from" in capsys.readouterr().err
    )
    assert contents(run) == before


def test_a_run_at_work_is_not_evaluated(run, capsys):
    with locked(run):
        assert main(["report", "--reevaluate", str(run)]) == 2
    assert "is in use by process" in capsys.readouterr().err


def test_a_renamed_run_is_compared_and_reported(run, tmp_path, capsys):
    moved = tmp_path / "baseline"
    shutil.copytree(run, moved)
    # The seed's folder put aside beside the run that took its place.
    shutil.copytree(run, run.parent / "seed-0-old")
    assert main(["compare", str(run), str(moved)]) == 0
    assert "baseline" in capsys.readouterr().out
    assert main(["compare", str(run), str(run.parent / "seed-0-old")]) == 0
    assert main(["report", str(run.parents[1])]) == 0
    page = (run.parents[1] / "report.html").read_text()
    assert "seed-0-old" not in page
    capsys.readouterr()
    assert main(["report", str(moved)]) == 2
    assert "is a run outside of an experiment's folder" in capsys.readouterr().err
    assert main(["report", str(run.parent)]) == 2
    assert f"Did you mean {run.parents[1]}?" in capsys.readouterr().err
    # An experiment under another name.
    shutil.move(run.parents[1], tmp_path / "renamed")
    assert main(["report", str(tmp_path / "renamed" / "main" / "seed-0")]) == 0
    report = tmp_path / "renamed" / "report.html"
    assert f"Report: {report}" in capsys.readouterr().out
