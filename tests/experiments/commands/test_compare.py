"""The command `compare`: its numbers, its files, and what it refuses in a sentence."""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, chi2
from sklearn.metrics import accuracy_score, roc_auc_score

from jaxmed.evaluation import Predictions, evaluate, write_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.printing.tables import print_table
from jaxmed.report.tables.formatting import Table, estimate, word

NAMES = ("normal", "pneumonia")


def draw(
    split: str,
    seed: int,
    *,
    skill: float = 1.5,
    n: int = 60,
    names: Sequence[str] = NAMES,
    task: str = "binary",
) -> Predictions:
    """Predictions whose images and labels do not depend on seed and skill."""
    truth = np.random.default_rng(7)
    labels = truth.integers(0, len(names), n)
    labels[: len(names)] = np.arange(len(names))
    member = np.eye(len(names))[labels]
    if task == "multilabel":
        labels = member = truth.integers(0, 2, (n, len(names)))
    noise = np.random.default_rng([seed, len(split)]).normal(size=member.shape)
    exp = np.exp(skill * member + noise)
    probs = exp / (1 + exp) if task == "multilabel" else exp / exp.sum(1, keepdims=True)
    return Predictions(
        split=split, ids=tuple(f"{split}/{i}" for i in range(n)), labels=labels,
        probs=probs, class_names=tuple(names), task=task,
    )  # fmt: skip


def write_run(folder: Path, splits: Sequence[Predictions], **environment) -> Path:
    folder.mkdir(parents=True)
    write_predictions(folder / "predictions.csv", splits)
    metrics = evaluate(*splits, resamples=10)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def both(seed: int, **options) -> list[Predictions]:
    return [draw(split, seed, **options) for split in ("val", "test")]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """Arms "scratch" and "deep" with two seeds, "alone" with one; one unfinished."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    arms = ["scratch", "deep", "alone"]
    for seed in (0, 1):
        runs = (("scratch", 0.8, seed), ("deep", 2.5, seed + 10))
        for arm, skill, drawn in runs:
            splits = both(drawn, skill=skill)
            write_run(folder / arm / f"seed-{seed}", splits, arms=arms)
    write_run(folder / "alone" / "seed-0", both(30), arms=arms)
    (folder / "alone" / "seed-1").mkdir()
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command, and returns what it wrote as JSON and what it printed."""

    def check(*words: object) -> tuple[dict, str]:
        path = tmp_path / "found.json"
        out = ["--resamples", "200", "--out", str(path)]
        assert main(["compare", *map(str, words), *out]) == 0
        return json.loads(path.read_text()), capsys.readouterr().out

    return check


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a command line that must fail, and returns the sentence."""

    def check(*words: object) -> str:
        out = tmp_path / "out" / "found.html"
        code = main(["compare", *map(str, words), "--out", str(out)])
        captured = capsys.readouterr()
        assert code == 2
        assert captured.err.startswith("Error: ")
        assert captured.err.count("\n") == 1
        assert not out.parent.exists()
        return captured.err

    return check


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Labels, probabilities of the positive class, and metrics of a run's test."""
    with (folder / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    labels = np.array([int(row["label"]) for row in rows])
    probs = np.array([float(row["prob_pneumonia"]) for row in rows])
    return labels, probs, json.loads((folder / "metrics.json").read_text())


def test_two_runs_at_their_own_thresholds(experiment, run):
    folders = [experiment / arm / "seed-0" for arm in ("scratch", "deep")]
    found, printed = run(*folders)
    (comparison,) = found["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("deep/seed-0", "scratch/seed-0")
    values, right = {"auroc": [], "accuracy": []}, []
    for folder in folders:
        labels, probs, metrics = read(folder)
        decided = probs >= metrics["threshold"]["value"]
        right.append(decided == labels)
        values["auroc"].append(roc_auc_score(labels, probs))
        values["accuracy"].append(accuracy_score(labels, decided))
        stated = metrics["test_at_threshold"]["accuracy"]["value"]
        assert values["accuracy"][-1] == pytest.approx(stated, abs=1e-12)
    for metric, (of_scratch, of_deep) in values.items():
        difference = comparison["metrics"][metric]
        assert difference["value"] == pytest.approx(of_deep - of_scratch, abs=1e-12)
        assert f"{of_deep - of_scratch:+.3f}" in printed
    deep = int((right[1] & ~right[0]).sum())
    scratch = int((right[0] & ~right[1]).sum())
    accuracy = comparison["metrics"]["accuracy"]
    exact = binomtest(deep, deep + scratch).pvalue
    statistic = (abs(deep - scratch) - 1) ** 2 / (deep + scratch)
    expected = exact if deep + scratch < 25 else chi2.sf(statistic, 1)
    assert accuracy["p"] == pytest.approx(expected)
    assert (accuracy["only_a"], accuracy["only_b"]) == (deep, scratch)
    assert f"({deep} : {scratch})" in printed
    assert found["arms"]["deep/seed-0"]["runs"] == [str(folders[1])]


def test_arms_of_an_experiment_in_its_order_and_over_seeds(experiment, run):
    found, printed = run(experiment)
    assert list(found["arms"]) == ["scratch", "deep", "alone"]
    pairs = [(one["a"], one["b"]) for one in found["comparisons"]]
    assert pairs == [("deep", "scratch"), ("alone", "scratch")]
    means = {}
    for arm in ("scratch", "deep"):
        each = [read(experiment / arm / f"seed-{seed}")[:2] for seed in (0, 1)]
        scores = [roc_auc_score(*one) for one in each]
        summary = found["arms"][arm]["metrics"]["auroc"]
        means[arm] = np.mean(scores)
        assert summary["value"] == pytest.approx(means[arm], abs=1e-12)
        assert summary["std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-12)
    deep, alone = (one["metrics"]["auroc"] for one in found["comparisons"])
    expected = means["deep"] - means["scratch"]
    assert deep["value"] == pytest.approx(expected, abs=1e-12)
    assert deep["another_training"]["p"] > 0
    assert alone["another_training"]["reason"] == "one seed only"
    assert "deep − scratch: retrained models (seeds: 2 and 2)" in printed
    assert "p (Holm)" in printed
    assert "alone/seed-1" in next(n for n in found["notes"] if "Not finished" in n)
    every, _ = run(experiment, "--all-pairs")
    assert len(every["comparisons"]) == 3


def test_a_margin_and_thresholds_of_net_benefit(experiment, tmp_path, run, refused):
    page = tmp_path / "found.html"
    words = ("--margin", 0.05, "--thresholds", "0.1,0.4", "--out", page)
    found, printed = run(experiment, *words)
    assert found["margin"]["metric"] == "auroc"
    deep, alone = found["margin"]["comparisons"]
    assert deep["noninferior"]
    assert deep["another_training"]["p_noninferior"] < 0.05
    assert alone["another_training"]["reason"] == "one seed only"
    assert "deep is non-inferior to scratch within a margin of 0.05" in printed
    assert "Non-inferiority and equivalence, margin of 0.05 in AUROC" in printed
    assert found["comparisons"][0]["net_benefit"]["thresholds"] == [0.1, 0.4]
    assert "deep − scratch: net benefit" in printed
    assert "Non-inferiority and equivalence" in page.read_text()
    folder = experiment
    assert "must be numbers in (0, 1)" in refused(folder, "--thresholds", "a,b")
    assert "The margin of auroc must be above 0" in refused(folder, "--margin", -1)


def test_an_arm_and_a_run_are_named_by_as_much_of_their_paths_as_needed(
    experiment, tmp_path, run
):
    other = write_run(tmp_path / "other" / "deep" / "seed-4", both(3))
    found, _ = run(experiment / "deep", other, experiment / "scratch" / "seed-1")
    assert list(found["arms"]) == ["deep", "deep/seed-4", "scratch/seed-1"]
    found, _ = run(experiment / "deep", other.parent)
    assert list(found["arms"]) == ["mine/deep", "other/deep"]


def test_a_folder_may_be_given_from_within(experiment, run, monkeypatch):
    monkeypatch.chdir(experiment / "deep" / "seed-0")
    found, _ = run(".", "../../scratch/seed-0")
    assert list(found["arms"]) == ["deep/seed-0", "scratch/seed-0"]


def test_csv_has_a_row_for_everything_compared(experiment, tmp_path):
    files = [tmp_path / f"found.{kind}" for kind in ("json", "csv", "html")]
    out = [word for file in files for word in ("--out", str(file))]
    assert main(["compare", str(experiment), "--resamples", "50", *out]) == 0
    found = json.loads(files[0].read_text())
    with files[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_key = {(row["a"], row["metric"], row["on"]): row for row in rows}
    assert len(by_key) == len(rows) == 11 * 3
    for one in found["comparisons"]:
        for metric, difference in one["metrics"].items():
            row = by_key[one["a"], metric, "images"]
            assert float(row["difference"]) == difference["value"]
            assert float(row["p"]) == difference["p"]
            assert float(row["p_holm"]) == difference["p_holm"]
            interval = difference.get("delong", difference)
            assert float(row["ci_low"]) == interval["ci_low"]
            value = found["arms"][one["a"]]["metrics"][metric]["value"]
            assert float(row["value_a"]) == value
    assert by_key["deep", "auroc", "images and seeds"]["test"] == "t"
    assert files[2].read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_several_classes_in_another_order(tmp_path, run, task):
    names = ("a", "b", "c")
    first = write_run(tmp_path / "x" / "seed-0", both(0, names=names, task=task))
    turned = []
    for split in both(1, names=names, task=task, skill=2.5):
        order = [2, 0, 1]
        labels = split.labels
        labels = labels[:, order] if labels.ndim == 2 else np.argsort(order)[labels]
        moved = {"labels": labels, "probs": split.probs[:, order]}
        turned.append(replace(split, class_names=("c", "a", "b"), **moved))
    second = write_run(tmp_path / "y" / "seed-0", turned)
    found, _ = run(first, second)
    (comparison,) = found["comparisons"]
    test = [draw("test", s, names=names, task=task, skill=k)
            for s, k in ((0, 1.5), (1, 2.5))]  # fmt: skip
    for i, name in enumerate(names):
        scores = [roc_auc_score(p.truth[:, i], p.probs[:, i]) for p in test]
        of_class = comparison["per_class"][name]["auroc"]
        assert of_class["value"] == pytest.approx(scores[1] - scores[0], abs=1e-9)
        assert of_class["test"] == "delong"


def test_what_is_not_the_same_about_the_data_is_said(tmp_path, run):
    a = write_run(tmp_path / "a" / "seed-0", both(0), data={"fingerprint": "1"})
    b = write_run(tmp_path / "b" / "seed-0", both(1), data={"fingerprint": "2"})
    found, printed = run(a, b)
    text = " ".join(found["notes"])
    assert "data sets are not the same" in text
    assert "data sets are not the same" in printed


def test_a_run_without_a_threshold_is_decided_at_a_half_and_that_is_said(tmp_path, run):
    val, test = both(0)
    val.labels[:] = 1
    a = write_run(tmp_path / "a" / "seed-0", [val, test])
    found, _ = run(a, write_run(tmp_path / "b" / "seed-0", both(1)))
    assert f"{a} chose no threshold for pneumonia; 0.5 is taken." in found["notes"]
    expected = accuracy_score(test.labels, test.probs[:, 1] >= 0.5)
    accuracy = found["arms"]["a/seed-0"]["metrics"]["accuracy"]["value"]
    assert accuracy == pytest.approx(expected)


def test_different_test_sets_are_refused_with_what_differs(
    experiment, tmp_path, refused
):
    first = experiment / "deep" / "seed-0"

    def against(splits):
        folder = tmp_path / "other"
        shutil.rmtree(folder, ignore_errors=True)
        return refused(first, write_run(folder / "arm" / "seed-0", splits))

    said = against(both(1, n=59))
    assert "different images. 1 ids are in one only, such as 'test/59'" in said
    assert f"which only {first} has (60 images and 59)" in said
    val, test = both(1)
    test.labels[5] = 1 - test.labels[5]
    assert "labels of the image 'test/5' differ, and of 1 of 60" in against([val, test])
    said = against(both(1, names=("normal", "covid")))
    assert "has 'pneumonia'" in said
    assert "has 'covid'" in said
    said = against(both(1, task="multilabel"))
    assert "they differ in task, binary and multilabel" in said


def test_bad_folders_are_refused(experiment, tmp_path, refused):
    one = experiment / "deep" / "seed-0"
    two = experiment / "scratch" / "seed-0"
    assert "There is no folder" in refused(one, tmp_path / "nowhere")
    assert "at least two runs or arms, got one" in refused(one)
    assert "name their folders" in refused(experiment / "deep")
    assert "given twice" in refused(one, one)
    assert "given twice" in refused(experiment, one)
    unfinished = experiment / "alone" / "seed-1"
    assert "not a finished run: it has no metrics.json" in refused(one, unfinished)
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused(one, tmp_path / "empty")
    (tmp_path / "begun" / "seed-0").mkdir(parents=True)
    assert "has no finished run" in refused(one, tmp_path / "begun")
    assert "must be at least 1, got 0" in refused(one, two, "--resamples", 0)


def test_out_must_be_a_file_of_a_known_kind(experiment, refused, tmp_path):
    assert "must end in one of .json" in refused(experiment, "--out", "found.pdf")
    (tmp_path / "found.csv").mkdir()
    assert "is a folder" in refused(experiment, "--out", tmp_path / "found.csv")


def test_edited_predictions_are_refused(experiment, tmp_path, refused):
    edited = tmp_path / "arm" / "seed-0"
    shutil.copytree(experiment / "deep" / "seed-0", edited)
    path = edited / "predictions.csv"
    text = path.read_text()
    first = next(line for line in text.splitlines() if line.startswith("test/", 5))
    name, label = first.split(",")[1:3]
    path.write_text(text.replace(f"{name},{label},", f"{name},{1 - int(label)},", 1))
    said = refused(experiment / "scratch", edited)
    assert "It was edited or replaced" in said


def test_on_a_terminal_a_table_fits_its_width():
    rows = [(word("AUROC"), estimate({"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}))]
    table = Table(caption="A", head=("metric", "value"), rows=tuple(rows), note="Note.")
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as file, redirect_stdout(file):
        print_table(table)
        file.flush()
        shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert "0.500" in shown
    assert "[0.400, 0.600]" in shown
    assert "Note." in shown
    assert max(map(len, shown.splitlines())) <= 100
