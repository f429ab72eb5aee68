"""Labels that are not known, from a table to the report."""

import csv
import json

import numpy as np
import pytest
from fixtures.marks import slow_but
from PIL import Image
from sklearn import metrics

from jaxmed.experiments.__main__ import main

NAMES = ("Mass", "Nodule")
RECIPE = """
[data]
source = "table:{table}?columns=site"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = {{ epochs = 2, learning_rate = 1e-2, batch_norm = "train" }}
batch_size = 8
select = "{select}"
class_weights = "balanced"
[evaluate]
resamples = 100
[explain]
images = 4
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """72 images with a bright half each where a label is true; a third not known."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    with (folder / "cohort.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["path", "split", "patient", "site", *map("label_{}".format, NAMES)]
        )
        for i in range(72):
            marks = rng.integers(0, 2, 2)
            pixels = rng.integers(0, 120, (24, 24))
            pixels[:12] += 60 * marks[0]
            pixels[:, :12] += 60 * marks[1]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
            cells = ["" if rng.random() < 1 / 3 else str(mark) for mark in marks]
            if i % 12 == 5:
                cells = ["", "NaN"]
            split = ("train", "val", "test")[i % 3] if i % 2 else "train"
            writer.writerow([f"{i}.png", split, f"p{i // 6}", "ab"[i % 5 == 0], *cells])
    return folder / "cohort.csv"


def run(table, tmp_path, select):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.format(table=table, select=select))
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "mine" / "main" / "seed-0"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def known_of(rows, name):
    pairs = [
        (int(row[f"label_{name}"]), float(row[f"prob_{name}"]))
        for row in rows
        if row[f"label_{name}"] != ""
    ]
    return tuple(map(np.array, zip(*pairs, strict=True)))


@pytest.mark.parametrize(
    "select",
    slow_but(
        ("val_auroc", "val_mcc"),
        ["val_auroc", "val_auprc", "val_balanced_accuracy", "val_f1", "val_mcc"],
    ),
)
def test_a_run_leaves_out_what_is_not_known(table, tmp_path, select, capsys):
    folder = run(table, tmp_path, select)
    assert (
        "labels are not known; loss and metrics leave them out"
        in capsys.readouterr().out
    )
    rows = read(folder / "predictions.csv")
    assert list(rows[0])[-2:] == ["group", "column_site"]
    by_path = {row["path"]: row for row in read(table)}
    for row in rows:
        given = by_path[row["id"]]
        assert (row["group"], row["column_site"]) == (given["patient"], given["site"])
        for name in NAMES:
            cell = given[f"label_{name}"]
            assert row[f"label_{name}"] == ("" if cell == "NaN" else cell)
    columns = {
        split: [known_of([r for r in rows if r["split"] == split], n) for n in NAMES]
        for split in ("val", "test")
    }
    scores = {
        "val_auroc": metrics.roc_auc_score,
        "val_auprc": metrics.average_precision_score,
        "val_balanced_accuracy": lambda y, p: metrics.balanced_accuracy_score(
            y, p >= 0.5
        ),
        "val_f1": lambda y, p: metrics.f1_score(y, p >= 0.5),
        "val_mcc": lambda y, p: metrics.matthews_corrcoef(y, p >= 0.5),
    }
    history = read(folder / "history.csv")
    best = max(history, key=lambda row: (float(row[select]), -int(row["epoch"])))
    for name in {"val_auroc", select}:
        expected = np.mean([scores[name](*column) for column in columns["val"]])
        assert float(best[name]) == pytest.approx(expected, abs=1e-6)
    hits = []
    for labels, probs in columns["val"]:
        hits += ((probs >= 0.5) == labels).tolist()
    assert float(best["val_accuracy"]) == pytest.approx(np.mean(hits), abs=1e-6)
    found = json.loads((folder / "metrics.json").read_text())["test"]
    for name, score in (
        ("auroc", "val_auroc"),
        ("balanced_accuracy", "val_balanced_accuracy"),
    ):
        expected = np.mean([scores[score](*column) for column in columns["test"]])
        assert found[name]["value"] == pytest.approx(expected, abs=1e-9)
    # Pictures are of images whose most probable label is known to be right or wrong.
    of = {row["id"]: row for row in rows}
    for cam in json.loads((folder / "cams" / "cams.json").read_text()):
        assert of[cam["id"]][f"label_{cam['predicted']}"] in ("0", "1")
    # The column that the source carries has its subgroups, to the report.
    metrics_of = json.loads((folder / "metrics.json").read_text())["subgroups"]
    test = [row["column_site"] for row in rows if row["split"] == "test"]
    found = {name: one["n"] for name, one in metrics_of["site"]["values"].items()}
    assert found == {name: test.count(name) for name in sorted(set(test))}
    page = (folder.parents[1] / "report.html").read_text(encoding="utf-8")
    assert "Test split by site" in page
