"""Decision curves and risk-coverage curves, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix

from jaxmed.errors import InputError
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import levels
from jaxmed.evaluation.metrics.decision_curve import decision_curve, risk_coverage


def net_benefit(truth, scores, threshold):
    """Vickers and Elkin 2006, read aloud."""
    table = confusion_matrix(truth, scores >= threshold, labels=[False, True])
    (_, alarms), (_, found) = table
    return (found - alarms * threshold / (1 - threshold)) / len(truth)


def drawn_again(predictions, resamples=25):
    (counts,) = Bootstrap(resamples=resamples).counts(units_of(predictions))
    for column in counts.T:
        rows = np.repeat(np.arange(len(column)), column.astype(int))
        yield predictions.labels[rows], predictions.probs[rows]


@pytest.mark.parametrize(
    ("task", "name"), [("binary", None), ("multiclass", "class 1")]
)
def test_decision_curve(draw, task, name):
    predictions = draw(task, classes=2 if name is None else 3, n=100)
    thresholds = [0.05, 0.2, 0.5, 0.9]
    found = decision_curve(
        predictions, class_name=name, thresholds=thresholds, resamples=25
    )
    assert found["thresholds"] == thresholds
    truth, scores = predictions.labels == 1, predictions.probs[:, 1]
    again = list(drawn_again(predictions))
    for i, threshold in enumerate(thresholds):
        expected = net_benefit(truth, scores, threshold)
        assert found["model"][i]["value"] == pytest.approx(expected, abs=1e-12)
        expected = net_benefit(truth, np.ones(100), threshold)
        assert found["all"][i]["value"] == pytest.approx(expected, abs=1e-12)
        values = [net_benefit(t == 1, p[:, 1], threshold) for t, p in again]
        low, high = np.quantile(values, levels(100))
        assert found["model"][i]["ci_low"] == pytest.approx(low, abs=1e-12)
        assert found["model"][i]["ci_high"] == pytest.approx(high, abs=1e-12)


def test_treating_all_is_as_unsure_as_the_prevalence(draw):
    predictions = draw("binary", classes=2, n=100)
    found = decision_curve(predictions, thresholds=[0.2], resamples=25)["all"][0]
    hits = int(predictions.labels.sum())
    share = binomtest(hits, 100).proportion_ci(method="wilson")
    expected = [p - 0.25 * (1 - p) for p in share]
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(expected)


def aurc_by_hand(wrong, sureness):
    """The mean over images of the risk among those at least as sure."""
    return np.mean([wrong[sureness >= limit].mean() for limit in sureness])


def test_risk_coverage(draw):
    predictions = draw(n=80)
    found = risk_coverage(predictions, coverages=[0.5, 1], resamples=25)
    wrong = predictions.probs.argmax(axis=1) != predictions.labels
    sureness = predictions.probs.max(axis=1)
    expected = aurc_by_hand(wrong, sureness)
    assert found["aurc"]["value"] == pytest.approx(expected, abs=1e-12)
    limit = np.sort(sureness)[::-1][39]
    expected = wrong[sureness >= limit].mean(), wrong.mean()
    assert [one["value"] for one in found["risk"]] == pytest.approx(expected)
    accuracy = accuracy_score(predictions.labels, predictions.probs.argmax(axis=1))
    assert found["risk"][1]["value"] == pytest.approx(1 - accuracy)
    values = [
        aurc_by_hand(p.argmax(axis=1) != t, p.max(axis=1))
        for t, p in drawn_again(predictions)
    ]
    low, high = np.quantile(values, levels(80))
    assert found["aurc"]["ci_low"] == pytest.approx(low, abs=1e-12)
    assert found["aurc"]["ci_high"] == pytest.approx(high, abs=1e-12)


def test_risk_of_four_images(draw):
    # By falling sureness: right, wrong, right, right.
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    predictions = replace(draw("binary", n=4, classes=2), probs=probs, labels=labels)
    found = risk_coverage(predictions, coverages=[0.25, 0.5, 0.75, 1], resamples=5)
    risks = [0, 1 / 2, 1 / 3, 1 / 4]
    assert [one["value"] for one in found["risk"]] == pytest.approx(risks)
    assert found["aurc"]["value"] == pytest.approx(np.mean(risks))


def test_multilabel_pairs_that_are_not_known_do_not_count(draw):
    predictions = draw("multilabel", n=50, classes=3)
    labels = predictions.labels.copy()
    labels[::3, 1] = -1
    predictions = replace(predictions, labels=labels)
    known = labels >= 0
    probs, truth = predictions.probs[known], labels[known] == 1
    found = risk_coverage(predictions, resamples=5)
    expected = aurc_by_hand((probs >= 0.5) != truth, np.maximum(probs, 1 - probs))
    assert found["aurc"]["value"] == pytest.approx(expected, abs=1e-12)
    curve = decision_curve(predictions, class_name="class 1", resamples=5)
    of_label = known[:, 1]
    truth = labels[of_label, 1] == 1
    expected = net_benefit(truth, predictions.probs[of_label, 1], 0.4)
    at = curve["thresholds"].index(0.4)
    assert curve["model"][at]["value"] == pytest.approx(expected, abs=1e-12)
    nothing = replace(predictions, labels=np.full_like(labels, -1))
    assert risk_coverage(nothing, resamples=5)["aurc"]["value"] is None
    curve = decision_curve(nothing, class_name="class 1", resamples=5)
    assert curve["model"][0]["reason"] == "no label is known"


def test_refused(draw):
    with pytest.raises(InputError, match="no positive class; name the class"):
        decision_curve(draw())
    with pytest.raises(InputError, match="Did you mean 'class 1'"):
        decision_curve(draw(), class_name="clas 1")
    with pytest.raises(InputError, match=r"in \(0, 1\), got 1"):
        decision_curve(draw("binary", classes=2), thresholds=[0.5, 1])
    with pytest.raises(InputError, match=r"Coverages must be in \(0, 1\], got 0"):
        risk_coverage(draw(), coverages=[0])
