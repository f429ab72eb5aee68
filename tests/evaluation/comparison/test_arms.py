"""Arms compared in pairs: every metric against scikit-learn, and what Holm covers."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from jaxmed.errors import InputError
from jaxmed.evaluation import compare_arms, paired_difference
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.comparison.arms import resamples_for
from jaxmed.evaluation.intervals.auc import delong_test
from jaxmed.evaluation.intervals.significance import holm


def another(predictions, seed, noise=0.3):
    """The predictions of a worse model on the same images."""
    random = np.random.default_rng(seed)
    probs = predictions.probs + noise * random.random(predictions.probs.shape)
    if predictions.task == "multilabel":
        return replace(predictions, probs=probs / (1 + noise))
    return replace(predictions, probs=probs / probs.sum(axis=1, keepdims=True))


BINARY = {
    "auroc": lambda y, p, d: sk.roc_auc_score(y, p[:, 1]),
    "auprc": lambda y, p, d: sk.average_precision_score(y, p[:, 1]),
    "accuracy": lambda y, p, d: sk.accuracy_score(y, d),
    "balanced_accuracy": lambda y, p, d: sk.balanced_accuracy_score(y, d),
    "f1": lambda y, p, d: sk.f1_score(y, d),
    "mcc": lambda y, p, d: sk.matthews_corrcoef(y, d),
    "kappa": lambda y, p, d: sk.cohen_kappa_score(y, d),
    "log_loss": lambda y, p, d: sk.log_loss(y, p / p.sum(axis=1, keepdims=True)),
    "brier": lambda y, p, d: sk.brier_score_loss(y, p[:, 1]),
    "sensitivity": lambda y, p, d: sk.recall_score(y, d),
    "specificity": lambda y, p, d: sk.recall_score(y, d, pos_label=0),
}
"""By metric: of labels, probabilities and decisions."""


def test_binary_differences_are_scikit_learns_at_each_runs_threshold(draw):
    a = draw("binary", classes=2, decimals=None)
    b = another(a, 1)
    arms = {
        "a": [apply_thresholds(a, {"class 1": 0.35})],
        "b": [apply_thresholds(b, {"class 1": 0.6})],
    }
    found = compare_arms(arms, resamples=50)
    (comparison,) = found["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("b", "a")
    assert set(comparison["metrics"]) == set(BINARY)
    for metric, score in BINARY.items():
        value_a = score(a.labels, a.probs, a.probs[:, 1] >= 0.35)
        value_b = score(b.labels, b.probs, b.probs[:, 1] >= 0.6)
        difference = comparison["metrics"][metric]
        assert difference["value"] == pytest.approx(value_b - value_a, abs=1e-6)
        assert difference["ci_low"] <= difference["value"] <= difference["ci_high"]
        assert found["arms"]["a"]["metrics"][metric]["value"] == pytest.approx(
            value_a, abs=1e-6
        )
        assert difference["p_holm"] == difference["p"]
    tests = {name: one["test"] for name, one in comparison["metrics"].items()}
    assert tests["auroc"] == "delong"
    assert tests["accuracy"].startswith("mcnemar")
    assert set(tests.values()) - {tests["accuracy"], "delong"} == {"bootstrap"}


@pytest.mark.parametrize("task", ["multiclass", "ordinal", "multilabel"])
def test_macro_auroc_by_bootstrap_and_each_class_by_delong(draw, task):
    a = draw(task, decimals=None)
    b = another(a, 1)
    arms = {"a": [apply_thresholds(a)], "b": [apply_thresholds(b)]}
    (comparison,) = compare_arms(arms, resamples=50)["comparisons"]
    macro = comparison["metrics"]["auroc"]
    assert macro["test"] == "bootstrap"
    expected = [sk.roc_auc_score(p.truth, p.probs, average="macro") for p in (a, b)]
    assert macro["value"] == pytest.approx(expected[1] - expected[0], abs=1e-9)
    assert ("quadratic_kappa" in comparison["metrics"]) == (task == "ordinal")
    p_values = []
    for i, name in enumerate(a.class_names):
        of_class = comparison["per_class"][name]["auroc"]
        tested = delong_test(a.truth[:, i], b.probs[None, :, i], a.probs[None, :, i])
        assert of_class["test"] == "delong"
        assert of_class["p"] == pytest.approx(tested.p)
        p_values.append(of_class["p"])
    adjusted = [comparison["per_class"][n]["auroc"]["p_holm"] for n in a.class_names]
    assert adjusted == holm(p_values)


def test_labels_that_are_not_known_are_left_out(draw):
    a = draw("multilabel", decimals=None)
    labels = a.labels.copy()
    labels[:50, 1] = -1
    a = replace(a, labels=labels)
    b = another(a, 1)
    thresholds = dict.fromkeys(a.class_names, 0.3)
    arms = {
        "a": [apply_thresholds(a, thresholds)],
        "b": [apply_thresholds(b, thresholds)],
    }
    (comparison,) = compare_arms(arms, resamples=20)["comparisons"]
    of_class = comparison["per_class"]["class 1"]
    y = labels[50:, 1]
    scores = [sk.roc_auc_score(y, p.probs[50:, 1]) for p in (a, b)]
    assert of_class["auroc"]["value"] == pytest.approx(scores[1] - scores[0])
    recalls = [sk.recall_score(y, p.probs[50:, 1] >= 0.3) for p in (a, b)]
    assert of_class["sensitivity"]["value"] == pytest.approx(recalls[1] - recalls[0])


def test_holm_covers_the_pairs_of_one_metric(draw):
    first = draw("binary", classes=2, decimals=None)
    arms = {"first": [apply_thresholds(first)]}
    for i in range(3):
        arms[f"arm {i}"] = [apply_thresholds(another(first, i, noise=0.4 * i + 0.1))]
    to_first = compare_arms(arms, resamples=20)["comparisons"]
    assert [(one["a"], one["b"]) for one in to_first] == [
        (f"arm {i}", "first") for i in range(3)
    ]
    every = compare_arms(arms, all_pairs=True, resamples=20)["comparisons"]
    assert len(every) == 6
    assert [one["a"] for one in every[:3]] == [one["a"] for one in to_first]
    for comparisons in (to_first, every):
        for metric in ("auroc", "f1"):
            found = [one["metrics"][metric] for one in comparisons]
            assert [one["p_holm"] for one in found] == holm([one["p"] for one in found])


def test_numbers_are_those_of_paired_difference(draw):
    """Where decisions are those of the most probable class."""
    a, c = draw("multiclass"), draw("multiclass", decimals=None)
    b = another(a, 3)
    assert c.ids == a.ids
    (comparison,) = compare_arms(
        {"a": [apply_thresholds(a)], "b": [apply_thresholds(b)]}, resamples=500
    )["comparisons"]
    for metric in ("auroc", "accuracy", "log_loss", "mcc"):
        expected = paired_difference([b], [a], metric, resamples=500)
        found = dict(comparison["metrics"][metric])
        assert found.pop("p_holm") == expected["p"]
        assert found["another_training"].pop("p_holm") is None
        assert found == expected


def test_another_training_is_tested_apart_from_images(draw):
    first = draw("binary", classes=2, decimals=None)
    a = [apply_thresholds(another(first, i, 0.2)) for i in range(3)]
    b = [apply_thresholds(another(first, 10 + i, 1.5)) for i in range(2)]
    found = compare_arms({"a": a, "b": b}, resamples=30)
    difference = found["comparisons"][0]["metrics"]["auroc"]
    again = difference["another_training"]
    assert again["p"] > difference["p"]
    assert again["p_holm"] == again["p"]
    summary = found["arms"]["a"]["metrics"]["auroc"]
    each = [sk.roc_auc_score(first.labels, one.predictions.probs[:, 1]) for one in a]
    assert summary["std"] == pytest.approx(np.std(each, ddof=1))
    assert (summary["min"], summary["max"]) == pytest.approx((min(each), max(each)))
    again = summary["another_training"]
    assert again["ci_low"] < summary["ci_low"] < summary["value"] < again["ci_high"]
    alone = compare_arms({"a": a, "b": b[:1]}, resamples=30)["comparisons"][0]
    again = alone["metrics"]["auroc"]["another_training"]
    assert again["p"] is again["p_holm"] is None
    assert again["reason"] == "one seed only"


def test_adjusting_leaves_a_clear_difference_clear(draw):
    """Of 28 comparisons, with as few resamples as a user may ask for."""
    first = draw("multiclass", decimals=None)
    arms = {"first": [apply_thresholds(first)]}
    for i in range(7):
        arms[f"arm {i}"] = [apply_thresholds(another(first, i, noise=20))]
    found = compare_arms(arms, all_pairs=True, resamples=100)
    assert len(found["comparisons"]) == 28
    assert found["intervals"]["resamples"] == resamples_for(28) > 10_000
    for comparison in found["comparisons"][:7]:
        assert comparison["b"] == "first"
        tested = comparison["metrics"]["mcc"]
        assert tested["test"] == "bootstrap"
        assert tested["p_holm"] < 0.05
    assert resamples_for(10**6) == 20_000


def test_one_class_only_is_undefined_with_the_reason(draw):
    a = draw("binary", classes=2)
    a = replace(a, labels=np.ones(200, int))
    b = another(a, 1)
    (comparison,) = compare_arms(
        {"a": [apply_thresholds(a)], "b": [apply_thresholds(b)]}, resamples=9
    )["comparisons"]
    auroc = comparison["metrics"]["auroc"]
    assert auroc["reason"] == "one class only"
    assert auroc["p"] is auroc["p_holm"] is auroc["value"] is None
    assert comparison["metrics"]["accuracy"]["p"] is not None


def test_patients_are_counted_and_drawn(draw):
    a = draw("binary", classes=2)
    a = replace(a, groups=tuple(str(i // 4) for i in range(200)))
    found = compare_arms(
        {"a": [apply_thresholds(a)], "b": [apply_thresholds(another(a, 1))]},
        resamples=9,
    )
    assert found["groups"] == 50
    assert "groups of images" in found["intervals"]["method"]
    tests = {k: one["test"] for k, one in found["comparisons"][0]["metrics"].items()}
    assert tests.pop("auroc") == "delong_clustered"
    assert set(tests.values()) == {"bootstrap"}


def test_one_arm_is_no_comparison(draw):
    with pytest.raises(InputError, match="at least two arms"):
        compare_arms({"a": [apply_thresholds(draw())]})
