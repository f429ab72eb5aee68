"""Refitting on k external images, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, recall_score

from jaxmed.evaluation import Predictions
from jaxmed.evaluation.calibration import fit_scaling
from jaxmed.evaluation.external.refitting import refitting_curve
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.thresholds import ThresholdRule, choose_thresholds


def draw(n, shift, groups=None, task="binary"):
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 2, n)
    logit = 2 * (2 * labels - 1) + 1.5 * rng.normal(size=n) + shift
    positive = 1 / (1 + np.exp(-logit))
    return Predictions(
        split="test", ids=tuple(f"{i}" for i in range(n)), labels=labels,
        probs=np.stack([1 - positive, positive], axis=1), class_names=("a", "b"),
        task=task, groups=groups,
    )  # fmt: skip


RULE = ThresholdRule()
VAL = draw(300, 0.0)
RUN = {
    "rule": RULE,
    "calibration": "platt",
    "thresholds": choose_thresholds(VAL, RULE),
    "scaling": fit_scaling(VAL, "platt"),
}


def test_as_it_is_are_the_runs_own_threshold_and_calibration():
    external = draw(400, 3.0)
    unchanged = refitting_curve(external, **RUN, sizes=(), draws=1)["unchanged"]
    said = external.probs[:, 1] >= RUN["thresholds"]["b"]
    probs = RUN["scaling"].apply(external)[:, 1]
    expected = {
        "sensitivity": recall_score(external.labels, said),
        "specificity": recall_score(external.labels, said, pos_label=0),
        "log_loss": log_loss(external.labels, probs),
        "brier": brier_score_loss(external.labels, probs),
    }
    for name, value in expected.items():
        assert unchanged[name] == pytest.approx(value, abs=1e-9)


def test_refitting_mends_a_shift_the_better_the_more_images():
    found = refitting_curve(draw(400, 3.0), **RUN, sizes=(20, 200), draws=20)
    before, (few, many) = found["unchanged"], found["sizes"]
    assert many["metrics"]["youden_j"]["mean"] > before["youden_j"] + 0.2
    assert many["metrics"]["log_loss"]["mean"] < before["log_loss"]
    spread = [p["metrics"]["youden_j"] for p in (few, many)]
    assert spread[0]["high"] - spread[0]["low"] > spread[1]["high"] - spread[1]["low"]


def test_sizes_above_half_of_the_images_are_left_out():
    found = refitting_curve(draw(60, 0.0), **RUN, draws=2)
    assert [point["k"] for point in found["sizes"]] == [20]


def test_of_one_class_only_the_runs_own_stay():
    external = draw(40, 1.0)
    external.labels[:] = 0
    external.labels[:2] = 1
    found = refitting_curve(external, **RUN, sizes=(4,), draws=20)
    assert found["sizes"][0]["not_refitted"] > 0.5
    none = RUN | {"thresholds": {"b": Undefined("none")}}
    assert "sensitivity" not in refitting_curve(external, **none, sizes=())["unchanged"]


def test_patients_are_drawn_whole():
    groups = tuple(f"p{i // 10}" for i in range(100))
    external = draw(100, 0.0, groups=groups)
    # Four images are of one patient, whose ten are fitted on, and the others measured.
    found = refitting_curve(external, **RUN, sizes=(4,), draws=3)
    assert found["sizes"][0]["k"] == 4
    assert found["sizes"][0]["metrics"]["log_loss"]["mean"] > 0
