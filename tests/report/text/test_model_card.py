"""Tests of the model card, the table of the data and that of what was chosen."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.tables.decisions import selection_table
from jaxmed.report.tables.provenance import data_table, skipped_table
from jaxmed.report.text.model_card import model_card
from jaxmed.runs.record import read_experiment, read_run


@pytest.fixture(scope="module")
def arms(binary_folder: Path):
    return read_experiment(binary_folder)[0]


def rows(table) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_card_has_metrics_with_intervals_and_limits(arms):
    comparison = Comparison(arms)
    card = dict(model_card(comparison, arms[1]))
    auroc = comparison.estimate(arms[1], "test", "auroc")
    low, high = auroc["ci_low"], auroc["ci_high"]
    performance = " ".join(card["Performance"])
    assert f"AUROC {auroc['value']:.3f} [{low:.3f}, {high:.3f}]" in performance
    again = auroc["another_training"]
    ends = f"retrained [{again['ci_low']:.3f}, {again['ci_high']:.3f}]"
    assert f"[{low:.3f}, {high:.3f}] {ends}" in performance
    # Those of the threshold are means over seeds too.
    for name in ("accuracy", "sensitivity"):
        found = [
            run.metrics["test_at_threshold"][name]["value"] for run in arms[1].runs
        ]
        assert f"{name} {np.mean(found):.3f} [" in performance
    assert "At the threshold chosen on val: accuracy" in performance
    assert "treat images as independent" in performance
    assert "160 test images" in performance
    assert "temperature scaling fitted on val" in card["Calibration"][0]
    limits = " ".join(card["Limits"])
    assert "same source" not in limits
    assert "Fewer than 100 test images of normal, pneumonia" in limits
    assert "It is one of 2 compared arms" in limits
    assert "1,000 train, 160 val, 160 test" in " ".join(card["Training data"])
    assert "imagenet" in " ".join(card["Model"])


def test_card_of_a_bare_run_of_one_class(tmp_path: Path, write_experiment):
    folder = tmp_path / "main" / "seed-0"
    write_experiment(folder, "binary", classes=2, one_class=True)
    (arm,), _ = read_experiment(tmp_path)
    card = dict(model_card(Comparison([arm]), arm))
    assert "AUROC" not in " ".join(card["Performance"])
    assert "One seed" in " ".join(card["Limits"])


def test_data_table_counts_images_patients_and_classes(tmp_path, write_experiment):
    folder = tmp_path / "main" / "seed-0"
    write_experiment(folder, "multiclass", classes=3)
    run = read_run(folder)
    found = rows(data_table(run))
    test = run.predictions["test"]
    for column, name in enumerate(test.class_names):
        images = int((test.labels == column).sum())
        assert found[name][0] == "–"
        assert found[name][2] == str(images)
    assert "patients or groups" not in found
    counts = {s: dict.fromkeys(test.class_names, 7) for s in ("train", "val", "test")}
    data = {"sizes": {"train": 21, "val": 21, "test": 21}, "counts": counts}
    data |= {"groups": {"train": 5, "val": 2, "test": 1}, "skipped": 2}
    data |= {"groups_in_several_splits": 1}
    (folder / "environment.json").write_text(json.dumps({"data": data}))
    (folder / "skipped.csv").write_text("name,reason\na.png,damaged\nb.png,empty\n")
    run = read_run(folder)
    table = data_table(run)
    assert rows(table)["patients or groups"] == ["5", "2", "1"]
    assert rows(table)["class 0"] == ["7", "7", "7"]
    assert "1 patients or groups are in more than one split." in table.note
    assert rows(skipped_table(run)) == {"a.png": ["damaged"], "b.png": ["empty"]}


def test_choices_name_their_split(arms):
    table = selection_table(arms)
    run = arms[0].first
    found = {(r[0].text, r[1].text): [c.text for c in r[2:]] for r in table.rows}
    assert found["scratch (seed 0)", "epoch"][0] == "all, epoch 4"
    assert found["scratch (seed 0)", "epoch"][2] == "val"
    threshold = run.metrics["threshold"]["value"]
    assert found["scratch (seed 0)", "threshold"] == [
        f"{threshold:.3f}",
        "maximum Youden's J",
        "val",
    ]
    assert found["two_phase (seed 0)", "calibration"][1:] == [
        "temperature, minimum log loss",
        "val",
    ]
