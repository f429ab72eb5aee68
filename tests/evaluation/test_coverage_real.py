"""Coverage in studies drawn from features of images: the script, on drawn features."""

import runpy
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage_real.py"


def test_a_few_studies(tmp_path, monkeypatch, capsys):
    rng, patients = np.random.default_rng(0), 600
    positive = rng.random(patients) < 0.5
    whose = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    features = rng.normal(size=(patients, 8))[whose]
    features += np.where(positive[whose, None], 0.7, -0.7)
    file = tmp_path / "features.npz"
    names = [f"person{i}" for i in whose]
    np.savez(file, features=features, labels=positive[whose], patients=names)
    words = ["none", "--features", str(file), "--studies", "3", "--patients", "90"]
    monkeypatch.setattr(sys, "argv", ["coverage_real.py", *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| | these models, 90 | retrained, 90 | pooled, 90 | folds, 90 |"
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        *("AUROC", "accuracy", "sensitivity", "specificity", "Brier score"),
    ]
    assert all(cell.strip(" %|()–0123456789") == "" for row in rows
               for cell in row.split(" | ")[1:])  # fmt: skip


def test_studies_keep_patients_apart_from_the_population():
    script = runpy.run_path(str(SCRIPT))
    rng = np.random.default_rng(0)
    images = script["Images"](
        rng.normal(size=(90, 2)), np.arange(90) // 3 % 2, np.arange(90) // 3
    )
    parts = script["divide"](images, (0.6, 0.2, 0.2), rng)
    for patient in range(30):
        assert len(set(parts[images.patients == patient])) == 1
    assert np.bincount(parts).tolist() == [54, 18, 18]
