"""Tests of what the page's sliders count in."""

import base64
from pathlib import Path

import numpy as np
import pytest

from jaxmed.report import build_report, read_run
from jaxmed.report.interactive.threshold_explorer import (
    class_scores,
    decision_counts,
    explorer_context,
)
from jaxmed.runs.record import Arm


@pytest.fixture(params=["binary", "multiclass", "multilabel"])
def run(request, tmp_path: Path, write_experiment):
    folder, task = tmp_path / "main" / "seed-0", request.param
    classes = 2 if task == "binary" else 3
    options = {"tied": task != "multiclass", "missing": task == "multilabel"}
    write_experiment(folder, task, classes=classes, **options)
    return read_run(folder)


def test_decisions_are_scikit_learns(run, oracle):
    test = run.predictions["test"]
    for one in class_scores(run):
        column = test.class_names.index(one.name)
        known = test.known[:, column]
        truth, scores = test.truth[known, column], test.probs[known, column]
        for threshold in (0.0, 1.0, 1.1, 0.5, one.threshold, *scores[:5]):
            expected = oracle(truth, scores >= threshold)
            for name, value in decision_counts(one, threshold).items():
                if value is None:
                    assert np.isnan(expected[name])
                else:
                    assert value == pytest.approx(expected[name], abs=1e-15)


def test_at_the_chosen_threshold_they_are_those_of_metrics_json(run):
    for one in class_scores(run):
        stated = run.metrics["test_at_threshold"]
        stated = stated if run.task == "binary" else stated[one.name]
        found = decision_counts(one, one.start())
        for name in ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1"):
            assert found[name] == pytest.approx(stated[name]["value"], abs=1e-12)


def test_scores_are_embedded_to_the_last_bit(run):
    context = explorer_context([Arm(name="main", runs=(run,))])
    (panel,) = context["panels"]
    for one, packed in zip(class_scores(run), panel["runs"][0]["classes"], strict=True):
        assert packed["threshold"] == one.threshold
        for side in ("positives", "negatives"):
            ((kind, text),) = packed[side].items()
            scores = np.frombuffer(base64.b64decode(text), np.dtype(kind))
            assert scores.astype(np.float64).tolist() == getattr(one, side).tolist()
            # Rounded to tenths, they are no float32 any more.
            assert kind == ("float32" if run.task == "multiclass" else "float64")


def test_what_is_too_much_for_the_page_is_left_out(run, monkeypatch):
    arms = [Arm(name=name, runs=(run, run)) for name in ("a", "b")]
    everything = explorer_context(arms)
    assert [len(panel["runs"]) for panel in everything["panels"]] == [2, 2]
    monkeypatch.setattr(
        "jaxmed.report.interactive.threshold_explorer.EMBEDDED",
        len(everything["json"]) // 3,
    )
    some = explorer_context(arms)
    assert [len(panel["runs"]) for panel in some["panels"]] == [1]
    assert len(some["missing"]) == 3
    monkeypatch.setattr("jaxmed.report.interactive.threshold_explorer.EMBEDDED", 10)
    assert explorer_context(arms) is None


def test_a_page_that_cannot_hold_the_scores_says_so(run, monkeypatch):
    monkeypatch.setattr("jaxmed.report.interactive.threshold_explorer.EMBEDDED", 10)
    html = build_report(run.folder.parents[1], title="large").read_text()
    assert "too large to embed its scores in this page" in html
    assert 'id="scores"' not in html


def test_no_threshold_on_val(tmp_path: Path, write_experiment):
    folder = tmp_path / "main" / "seed-0"
    write_experiment(folder, "binary", classes=2, one_class=True)
    run = read_run(folder)
    run.metrics["threshold"] |= {"value": None, "reason": "all are of one class"}
    (one,) = class_scores(run)
    assert (one.start(), one.reason) == (0.5, "all are of one class")
    assert decision_counts(one, 0.5)["sensitivity"] is None
