"""Thresholds chosen on validation, and decisions at them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score, roc_curve

from jaxmed.errors import InputError
from jaxmed.evaluation import evaluate
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import Undefined, levels
from jaxmed.evaluation.metrics.operating_points import ThresholdDecisions
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.thresholds import ThresholdRule, choose_thresholds


def choose(truth, scores, **rule):
    predictions = Predictions(
        split="val",
        ids=tuple(map(str, range(len(truth)))),
        labels=truth,
        probs=np.stack([1 - scores, scores], axis=1),
        class_names=("a", "b"),
        task="binary",
    )
    return choose_thresholds(predictions, ThresholdRule(**rule))["b"]


def best_by_trying(truth, scores):
    """The highest of the scores with the largest J, in whole numbers."""
    negatives, positives = (~truth).sum(), truth.sum()

    def gain(threshold):
        decided = scores >= threshold
        hits, alarms = (decided & truth).sum(), (decided & ~truth).sum()
        return hits * negatives - alarms * positives

    return max(sorted(set(scores), reverse=True), key=gain)


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_highest_of_the_best_thresholds(seed):
    random = np.random.default_rng(seed)
    truth = np.append(random.random(40) < 0.4, [True, False])
    scores = np.round((random.random(42) + 0.3 * truth) / 1.3, 1)
    assert choose(truth, scores) == best_by_trying(truth, scores)


def test_ties_take_the_highest():
    # J is 1/2 at 0.8 and at 0.4.
    truth = np.array([True, False, True, False])
    scores = np.array([0.8, 0.6, 0.4, 0.2])
    assert choose(truth, scores) == 0.8


@pytest.mark.parametrize(
    "scores", [[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.8, 0.9], [0.0, 0.0, 1.0, 1.0]]
)
def test_a_useless_score_still_gets_a_finite_threshold(scores):
    # No threshold is better than "nothing is positive", whose threshold is infinite.
    truth = np.array([True, True, False, False])
    assert roc_curve(truth, scores)[2][0] == np.inf
    threshold = choose(truth, np.array(scores))
    assert threshold == min(scores)


def test_one_class_only_has_no_threshold():
    scores = np.array([0.2, 0.7])
    none = choose(np.zeros(2, bool), scores)
    every = choose(np.ones(2, bool), scores)
    assert none == Undefined("no image of this class")
    assert every == Undefined("every image is of this class")


def test_binary_tasks_have_one_threshold_and_others_one_per_class(draw):
    assert list(choose_thresholds(draw("binary", classes=2))) == ["class 1"]
    for task in ("multiclass", "multilabel"):
        predictions = draw(task, classes=3)
        chosen = choose_thresholds(predictions)
        assert list(chosen) == ["class 0", "class 1", "class 2"]
        for i, threshold in enumerate(chosen.values()):
            truth, scores = predictions.truth[:, i], predictions.probs[:, i]
            assert threshold == best_by_trying(truth, scores)


def test_a_score_at_the_threshold_is_positive(draw):
    predictions = draw("binary", classes=2, n=50)
    threshold = predictions.probs[7, 1]
    values = ThresholdDecisions(predictions, {"class 1": threshold}).values()
    decided = predictions.probs[:, 1] >= threshold
    right = (decided == (predictions.labels == 1)).mean()
    assert decided[7]
    assert values["at_threshold", "accuracy"] == right


def test_without_a_threshold_the_reason_is_passed_on(draw):
    predictions = draw(classes=3)
    thresholds = {"class 0": 0.5, "class 2": Undefined("no image of this class")}
    values = ThresholdDecisions(predictions, thresholds).values()
    assert isinstance(values["at_threshold", "class 0", "f1"], float)
    reason = values["at_threshold", "class 2", "f1"]
    assert reason == Undefined("no threshold, as in val: no image of this class")


def points_of(truth, scores):
    """Sensitivity and specificity of every score as a threshold, the highest first."""
    for threshold in sorted(set(scores), reverse=True):
        decided = scores >= threshold
        sensitivity = recall_score(truth, decided)
        yield threshold, sensitivity, recall_score(truth, decided, pos_label=0)


@pytest.mark.parametrize("seed", range(10))
def test_other_rules_against_trying_every_score(seed):
    random = np.random.default_rng(seed)
    truth = np.append(random.random(60) < 0.4, [True, False])
    scores = np.round((random.random(62) + 0.5 * truth) / 1.5, 2)
    points = list(points_of(truth, scores))
    share = truth.mean()

    expected = next(t for t, sensitivity, _ in points if sensitivity >= 0.8)
    assert choose(truth, scores, method="sensitivity", target=0.8) == expected

    expected, _, _ = max((p for p in points if p[2] >= 0.7), key=lambda p: (p[1], p[0]))
    assert choose(truth, scores, method="specificity", target=0.7) == expected

    for prevalence, cost in ((None, 5), (0.1, 20)):
        ill = share if prevalence is None else prevalence
        expected, _, _ = min(
            points,
            key=lambda p: round(cost * ill * (1 - p[1]) + (1 - ill) * (1 - p[2]), 12),
        )
        rule = {"method": "cost", "cost": cost, "prevalence": prevalence}
        assert choose(truth, scores, **rule) == expected

    expected, _, _ = max(
        points, key=lambda p: round(f1_score(truth, scores >= p[0]), 12)
    )
    assert choose(truth, scores, method="f1") == expected
    assert choose(truth, scores, method="0.5") == 0.5


def test_a_specificity_that_no_threshold_reaches():
    truth, scores = np.array([True, False, True]), np.array([0.8, 0.9, 0.1])
    found = choose(truth, scores, method="specificity", target=0.95)
    assert found == Undefined("no threshold has a specificity of 0.95")


def test_missing_labels_choose_nothing(draw):
    predictions = draw("multilabel", classes=2, n=100)
    labels = predictions.labels.copy()
    labels[60:, 1] = -1
    chosen = choose_thresholds(replace(predictions, labels=labels))
    kept = predictions.take(np.arange(60))
    assert chosen["class 0"] == choose_thresholds(predictions)["class 0"]
    assert chosen["class 1"] == choose_thresholds(kept)["class 1"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"method": "yuoden"}, "Did you mean 'youden'"),
        ({"target": 0}, r"target of a threshold must be in \(0, 1\], got 0"),
        ({"cost": 0}, "must be above 0, got 0"),
        ({"prevalence": 1}, r"prevalence must be in \(0, 1\), got 1"),
    ],
)
def test_refused(rule, message):
    with pytest.raises(InputError, match=message):
        ThresholdRule(**rule)


def test_the_interval_of_a_threshold_is_that_of_val_drawn_again(draw):
    val = draw("binary", classes=2, n=150, split="val")
    result = evaluate(val, draw("binary", classes=2, n=50), resamples=30)["threshold"]
    (counts,) = Bootstrap(resamples=30).counts(units_of(val))
    chosen = []
    for column in counts.T:
        rows = np.repeat(np.arange(150), column.astype(int))
        chosen.append(choose(val.labels[rows] == 1, val.probs[rows, 1]))
    low, high = np.quantile(chosen, levels(150))
    assert (result["ci_low"], result["ci_high"]) == pytest.approx((low, high))
    assert low < high


def test_acting_on_no_one_is_a_choice_where_it_costs_least():
    labels = np.r_[np.ones(10, bool), np.zeros(90, bool)]
    random = np.random.default_rng(0)
    scores = np.r_[random.uniform(0.2, 0.7, 10), random.uniform(0, 1, 90)]
    scores[-1] = 1.0
    threshold = choose(labels, scores, method="cost", cost=1.0)
    assert not (scores >= threshold).any()
    assert np.float32(threshold) > 1
    # Where a missed one costs more than all false alarms, it is none.
    assert (scores[labels] >= choose(labels, scores, method="cost", cost=100)).all()
    val = Predictions(
        split="val",
        ids=tuple(map(str, range(100))),
        labels=labels,
        probs=np.stack([1 - scores, scores], axis=1),
        class_names=("a", "b"),
        task="binary",
    )
    test = replace(val, split="test")
    result = evaluate(val, test, threshold="cost", resamples=20)
    assert "nothing is positive" in result["threshold"]["note"]
    assert result["test_at_threshold"]["sensitivity"]["value"] == 0
