"""Pooled predictions of an ensemble's members: of seeds, and of folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions, evaluate
from jaxmed.runs.ensemble import ensemble_gain, evaluate_ensemble, pool
from jaxmed.runs.record import RunRecord


def draw(split: str, seed: int, first=0, n=60) -> Predictions:
    """Draws predictions; an image's label is the same for every seed."""
    images = range(first, first + n)
    labels = np.array([i * 7 % 3 == 0 for i in images], int)
    noise = np.random.default_rng([seed, first]).normal(size=n)
    positive = (1 / (1 + np.exp(1 - 2 * labels - 1.5 * noise))).astype(np.float32)
    return Predictions(
        split=split, ids=tuple(f"{split}/{i}" for i in images), labels=labels,
        probs=np.stack([1 - positive, positive], axis=1), class_names=("a", "b"),
        task="binary", groups=tuple(f"p{i // 2}" for i in images),
    )  # fmt: skip


def record(val: Predictions, test: Predictions) -> RunRecord:
    return RunRecord(
        folder=Path("run"), arm="arm", seed=0, config="", history=(), cams=(),
        metrics=evaluate(val, test, resamples=50, threshold="sensitivity", target=0.8),
        predictions={"val": val, "test": test}, environment={},
    )  # fmt: skip


def test_seeds_are_averaged_image_by_image():
    parts = [draw("val", seed) for seed in range(3)]
    order = np.random.default_rng(0).permutation(60)
    pooled = pool([parts[0], parts[1].take(order), parts[2]])
    assert pooled.ids == parts[0].ids
    assert pooled.groups == parts[0].groups
    mean = np.mean([part.probs for part in parts], axis=0)
    np.testing.assert_allclose(pooled.probs, mean, rtol=1e-6)


def test_of_folds_each_image_has_the_prediction_of_who_has_not_seen_it():
    folds = [draw("val", seed, first=60 * seed) for seed in range(3)]
    pooled = pool(folds)
    assert len(pooled.ids) == 180
    np.testing.assert_array_equal(pooled.probs[60:120], folds[1].probs)


def test_members_that_name_a_label_otherwise_are_refused():
    one = draw("val", 0)
    with pytest.raises(InputError, match="do not agree about the labels of their val"):
        pool([one, replace(one, labels=1 - one.labels)])


def test_threshold_and_calibration_are_chosen_by_the_runs_rule_on_the_averages():
    members = [record(draw("val", seed), draw("test", seed + 10)) for seed in range(3)]
    metrics = evaluate_ensemble(members)
    assert metrics["threshold"]["method"] == "sensitivity"
    assert metrics["threshold"]["target"] == 0.8
    assert metrics["intervals"]["resamples"] == 50
    val = pool([member.predictions["val"] for member in members])
    found = val.probs[val.labels == 1, 1] >= metrics["threshold"]["value"]
    assert found.mean() >= 0.8


def test_the_gain_is_over_the_mean_of_the_members():
    members = [record(draw("val", seed), draw("test", seed + 10)) for seed in range(3)]
    gain = ensemble_gain(members)["gain"]
    tests = [member.predictions["test"] for member in members]
    together = pool(tests)
    for name, score in (("auroc", roc_auc_score), ("brier", brier_score_loss)):
        single = np.mean([score(test.labels, test.probs[:, 1]) for test in tests])
        expected = score(together.labels, together.probs[:, 1]) - single
        assert gain[name]["value"] == pytest.approx(expected, abs=1e-9)
    # Independent errors cancel.
    assert gain["auroc"]["ci_low"] > 0
    assert gain["brier"]["ci_high"] < 0


def test_of_members_with_test_images_of_their_own_there_is_no_gain():
    members = [record(draw("val", s), draw("test", s, first=60 * s)) for s in (0, 1)]
    assert "test images of its own" in ensemble_gain(members)["reason"]
