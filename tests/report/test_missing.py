"""Tests of reports on runs that lack something, which is normal."""

import json
import re
import shutil
from pathlib import Path

import pytest

from jaxmed.report import build_report


def test_bare_multilabel_run(tmp_path: Path, write_experiment):
    write_experiment(tmp_path / "main" / "seed-0", "multilabel", classes=3)
    html = build_report(tmp_path, title="labels").read_text()
    assert "A multi-label task has no confusion matrix." in html
    for anchor in ("training", "maps", "published"):
        assert f'id="{anchor}"' not in html
        assert f'href="#{anchor}"' not in html
    assert "not recorded" in html


def test_many_classes(tmp_path: Path, write_experiment):
    write_experiment(tmp_path / "main" / "seed-0", "multiclass", classes=17)
    html = build_report(tmp_path, title="many").read_text()
    assert "(17 in all)" in html


def test_test_split_of_one_class(tmp_path: Path, write_experiment):
    write_experiment(tmp_path / "main" / "seed-0", "binary", classes=2, one_class=True)
    html = build_report(tmp_path, title="one").read_text()
    reason = json.loads((tmp_path / "main/seed-0/metrics.json").read_text())["test"]
    assert reason["auroc"]["value"] is None
    assert f'title="{reason["auroc"]["reason"]}"' in html
    assert not re.search(r">\s*nan\b|[\"\[ ]nan[\"\],]", html)


def test_arms_tested_on_different_images(tmp_path: Path, write_experiment):
    write_experiment(tmp_path / "a" / "seed-0", "binary", classes=2)
    write_experiment(tmp_path / "b" / "seed-0", "binary", classes=2, n=90)
    html = build_report(tmp_path, title="different").read_text()
    assert "they are of different images" in html
    assert "which cannot be compared with" in html


def test_damaged_rebuild_leaves_the_old_report(tmp_path: Path, write_experiment):
    run = tmp_path / "a" / "seed-0"
    write_experiment(run, "binary", classes=2)
    path = build_report(tmp_path, title="first")
    before = path.read_bytes()
    shutil.copy(run / "predictions.csv", run / "metrics.json")
    with pytest.raises(ValueError, match="not valid JSON"):
        build_report(tmp_path, title="second")
    assert path.read_bytes() == before


def test_updating_statistics_are_described(tmp_path: Path, write_experiment):
    run = tmp_path / "a" / "seed-0"
    write_experiment(run, "binary", classes=2)
    phase = {
        "name": "head",
        "epochs": 3,
        "trainable": 10,
        "updating_bn_stats": ["backbone"],
    }
    parameters = {"parameters": {"total": 100, "phases": [phase | {"groups": []}]}}
    (run / "environment.json").write_text(json.dumps(parameters))
    html = build_report(tmp_path, title="drift").read_text()
    assert "statistics of frozen layers update: backbone" in html
    assert (
        "In a (phase head) frozen BatchNorm layers update their statistics, as in "
        "programs that call model.train()" in html
    )
    assert "Strategy diagram" not in html
