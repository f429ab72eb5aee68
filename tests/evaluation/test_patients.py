"""Results by patient, against loops over patients and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score, roc_curve

from jaxmed.errors import InputError
from jaxmed.evaluation import aggregate_patients, evaluate

RULES = {
    "mean": np.mean,
    "max": np.max,
    "noisy_or": lambda p: 1 - np.prod(1 - p),
}


def with_patients(predictions, unknown=3):
    """Patients of one to four images, and images of unknown ones."""
    n = len(predictions.ids)
    whose = np.sort(np.random.default_rng(3).integers(0, n // 2, n))
    names = [f"p{i}" for i in whose]
    names[:unknown] = [""] * unknown
    return replace(predictions, groups=tuple(names))


def by_hand(predictions, rule):
    """Labels and scores of the positive class, patient by patient."""
    names = [name or i for i, name in enumerate(predictions.groups)]
    labels, scores = [], []
    for patient in dict.fromkeys(names):
        rows = [i for i, name in enumerate(names) if name == patient]
        labels.append(max(predictions.labels[rows]))
        scores.append(rule(predictions.probs[rows, 1]))
    return np.array(labels), np.array(scores)


@pytest.mark.parametrize("method", RULES)
def test_results_by_patient_can_be_recomputed(draw, method):
    val, test = (
        with_patients(draw("binary", classes=2, decimals=None, split=s, seed=i))
        for i, s in enumerate(("val", "test"))
    )
    result = evaluate(val, test, resamples=20, by_patient=method)
    of = result["by_patient"]
    assert of["aggregation"] == method
    labels, scores = by_hand(test, RULES[method])
    assert of["test"]["n"] == len(labels) == result["test"]["groups"] < 200
    auroc = roc_auc_score(labels, scores)
    assert of["test"]["auroc"]["value"] == pytest.approx(auroc, abs=1e-12)
    assert of["test"]["auroc"]["ci_low"] < auroc < of["test"]["auroc"]["ci_high"]
    # The threshold is that of val's patients, not that of its images.
    false, true, thresholds = roc_curve(*by_hand(val, RULES[method]))
    threshold = thresholds[np.argmax(true - false)]
    assert of["threshold"]["value"] == pytest.approx(threshold, abs=1e-12)
    assert of["threshold"]["chosen_on"] == "val"
    sensitivity = recall_score(labels, scores >= of["threshold"]["value"])
    found = of["test_at_threshold"]["sensitivity"]["value"]
    assert found == pytest.approx(sensitivity, abs=1e-12)
    alone = evaluate(val, test, resamples=20, by_patient="off")
    assert "by_patient" not in alone
    assert alone["test"] == result["test"]


def test_labels_of_patients(draw):
    several = with_patients(draw("multilabel", classes=3, n=60))
    several.labels[::3, 1] = -1
    found = aggregate_patients(several, "max")
    names = [name or i for i, name in enumerate(several.groups)]
    for row, patient in enumerate(dict.fromkeys(names)):
        of = several.labels[[name == patient for name in names]]
        for label, seen in zip(found.labels[row], of.T, strict=True):
            assert label == (1 if 1 in seen else -1 if -1 in seen else 0)
    many = with_patients(draw("multiclass", n=60))
    assert aggregate_patients(many).reason == "a patient has images of several classes"
    same = {name: i % 4 for i, name in enumerate(dict.fromkeys(many.groups))}
    agreed = replace(many, labels=np.array([same[name] for name in many.groups]))
    assert aggregate_patients(agreed).probs.sum(axis=1) == pytest.approx(1)


def test_what_cannot_be_evaluated_by_patient_says_why(draw):
    val, test = (draw(classes=3, split=split) for split in ("val", "test"))
    assert "by_patient" not in evaluate(val, test, resamples=1)
    test = with_patients(test)
    reason = evaluate(val, test, resamples=1)["by_patient"]["reason"]
    assert reason == "the patients of val are not known"
    result = evaluate(with_patients(val), test, resamples=1)["by_patient"]
    assert result["reason"] == "a patient has images of several classes"
    with pytest.raises(InputError, match="is for binary and multilabel tasks"):
        evaluate(val, test, by_patient="max")
    with pytest.raises(InputError, match="Unknown by_patient 'median'"):
        evaluate(val, test, by_patient="median")
