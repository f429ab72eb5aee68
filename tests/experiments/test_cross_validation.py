"""A cross-validation from recipe to report: folders, patients, going on, the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxmed.evaluation import read_predictions
from jaxmed.experiments.__main__ import main

RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
folds = 3
cross_validation = true
group_pattern = "/0*(\\\\d+)\\\\d$"
[model]
backbone = "resnet10_narrow"
[evaluate]
resamples = 100
[explain]
images = 0
[arms.frozen]
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
[arms.k_nn]
train.strategy = "k_nn"
"""


def run(folder: Path, *flags: str) -> int:
    out = str(folder / "out")
    return main(["run", str(folder / "mine.toml"), "--out", out, *flags])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    rng, arrays = np.random.default_rng(0), {}
    # Ten images of each patient: train/000017 is of patient 1.
    labels = rng.permutation(np.arange(240) // 10 % 2)
    images = rng.integers(0, 120, (240, 28, 28, 1), dtype=np.uint8)
    images[labels == 1] += 60
    for split, part in (("train", slice(180)), ("val", slice(180, 210)),
                        ("test", slice(210, 240))):  # fmt: skip
        arrays[f"{split}_images"] = images[part]
        arrays[f"{split}_labels"] = labels[part, None]
    np.savez(folder / "mine.npz", **arrays)
    (folder / "mine.toml").write_text(RECIPE.format(data=folder / "mine.npz"))
    assert run(folder) == 0
    return folder / "out" / "mine"


def test_every_image_is_tested_once_by_models_that_never_saw_its_patient(folder):
    result = json.loads((folder / "cross_validation.json").read_text())
    assert (result["folds"], result["n"], result["unfinished"]) == (3, 240, [])
    assert result["groups"] == 18
    names = ("0", "1")
    for arm in ("frozen", "k_nn"):
        seen, aurocs = [], []
        for fold in range(3):
            run_folder = folder / arm / f"fold-{fold}" / "seed-0"
            read = read_predictions(
                run_folder / "predictions.csv", class_names=names, task="binary"
            )
            test, val = read["test"], read["val"]
            seen += test.ids
            assert not set(test.groups) & set(val.groups)
            lines = (run_folder / "split.csv").read_text().splitlines()[1:]
            trained = {x.split(",")[0] for x in lines if ",train" in x}
            assert not trained & set(test.ids)
            aurocs.append(roc_auc_score(test.labels, test.probs[:, 1]))
            card = (run_folder / "MODEL_CARD.md").read_text()
            assert f"mine, {arm}, fold {fold}, seed 0" in card
        assert len(seen) == len(set(seen)) == 240
        of = result["arms"][arm]["metrics"]["auroc"]
        assert [one["value"] for one in of["folds"]] == pytest.approx(aurocs)
    assert [(c["a"], c["b"]) for c in result["comparisons"]] == [("k_nn", "frozen")]


def test_the_page_has_arms_differences_and_folds(folder):
    page = (folder / "report.html").read_text()
    for text in ("Differences between arms", "AUROC by fold", "Nadeau and Bengio"):
        assert text in page
    assert "k_nn − frozen" in page


def test_it_goes_on_with_the_fold_that_is_missing(folder, capsys):
    lost, kept = folder / "k_nn/fold-1/seed-0", folder / "k_nn/fold-0/seed-0"
    before = (lost / "metrics.json").read_bytes()
    times = (kept / "metrics.json").stat().st_mtime_ns
    shutil.rmtree(lost)
    assert main(["report", str(folder)]) == 0
    partial = json.loads((folder / "cross_validation.json").read_text())
    assert partial["folds"] == 2
    assert partial["unfinished"] == ["frozen/fold-1/seed-0"]
    assert run(folder.parents[1]) == 0
    assert capsys.readouterr().out.count("Finished already, skipped") == 5
    assert (lost / "metrics.json").read_bytes() == before
    assert (kept / "metrics.json").stat().st_mtime_ns == times
    assert main(["report", str(folder), "--format", "csv"]) == 2
    capsys.readouterr()
    assert main(["compare", str(folder)]) == 2
    assert "is of a cross-validation" in capsys.readouterr().err
