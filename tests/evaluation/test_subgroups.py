"""The same table for every value of a column."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from jaxmed.errors import InputError
from jaxmed.evaluation import evaluate, evaluate_subgroups


@pytest.fixture
def by_site(draw):
    """A test split of three sites and an unknown one; the last ones are small."""
    predictions = draw("binary", classes=2, n=120)
    labels = predictions.labels.copy()
    labels[105:] = 1
    sites = ("north",) * 45 + ("south",) * 45 + ("",) * 15 + ("east",) * 15
    ages = tuple(map(str, range(120)))
    return replace(predictions, labels=labels, columns={"site": sites, "age": ages})


def test_each_value_is_evaluated_on_its_own(draw, by_site):
    val = draw("binary", classes=2, n=100, split="val", seed=1)
    result = evaluate(val, by_site, resamples=50, prevalence=0.1)
    tables = result["subgroups"]["site"]["values"]
    assert list(tables) == ["east", "north", "not known", "south"]
    north = tables["north"]
    assert north["n"] == 45
    labels, scores = by_site.labels[:45], by_site.probs[:45, 1]
    expected = roc_auc_score(labels, scores)
    assert north["auroc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert north["auroc"]["ci_low"] < expected < north["auroc"]["ci_high"]
    decided = scores >= result["threshold"]["value"]
    found = north["at_threshold"]["sensitivity"]["value"]
    assert found == pytest.approx(recall_score(labels, decided), abs=1e-12)
    assert north["at_threshold"]["ppv_at_prevalence"]["value"] < 1
    assert north["small"] is None
    assert tables["not known"]["small"] == "fewer than 30 images"
    assert tables["east"]["auroc"]["reason"] == "one class only"
    json.dumps(result, allow_nan=False)


def test_a_column_of_many_values_is_not_one_of_groups(draw, by_site):
    val = draw("binary", classes=2, n=100, split="val", seed=1)
    ages = evaluate(val, by_site, resamples=10)["subgroups"]["age"]
    assert ages["values"] == {}
    assert ages["reason"] == "120 different values; put them into at most 30 bands"


def test_one_class_is_marked(by_site):
    alike = replace(by_site, labels=np.ones(120, int))
    found = evaluate_subgroups(alike, "site", thresholds={"class 1": 0.5}, resamples=5)
    assert found["values"]["north"]["small"] == "one class only"


def test_groups_are_a_column_too_and_are_drawn_whole(by_site):
    grouped = replace(by_site, groups=tuple("ab"[i % 2] for i in range(120)))
    given = {"thresholds": {"class 1": 0.5}, "resamples": 10}
    found = evaluate_subgroups(grouped, "group", **given)
    assert [table["n"] for table in found["values"].values()] == [60, 60]
    patients = replace(by_site, groups=tuple(str(i // 2) for i in range(120)))
    north = evaluate_subgroups(patients, "site", **given)["values"]["north"]
    assert (north["n"], north["groups"]) == (45, 23)


def test_missing_labels_in_subgroups(draw):
    predictions = draw("multilabel", classes=2, n=80)
    labels = predictions.labels.copy()
    labels[:40, 0] = -1
    columns = {"sex": ("f",) * 40 + ("m",) * 40}
    predictions = replace(predictions, labels=labels, columns=columns)
    thresholds = {"class 0": 0.5, "class 1": 0.5}
    given = {"thresholds": thresholds, "resamples": 10}
    found = evaluate_subgroups(predictions, "sex", **given)["values"]
    assert found["f"]["auroc"]["reason"] == "no image of this class: 'class 0'"
    assert found["m"]["auroc"]["value"] > 0.5


def test_refused(draw, by_site):
    with pytest.raises(InputError, match="Did you mean 'site'"):
        evaluate_subgroups(by_site, "sites", thresholds={"class 1": 0.5})
    with pytest.raises(InputError, match="they have none at all"):
        evaluate_subgroups(draw(), "site", thresholds={})


def test_small_counts_patients(draw):
    predictions = draw("binary", classes=2, n=120)
    columns = {"site": ("north",) * 60 + ("south",) * 60}
    groups = tuple(str(i // 3) for i in range(120))
    given = {"thresholds": {"class 1": 0.5}, "resamples": 10}
    alone = replace(predictions, columns=columns)
    found = evaluate_subgroups(alone, "site", **given)["values"]["north"]
    assert found["small"] is None
    found = evaluate_subgroups(replace(alone, groups=groups), "site", **given)
    assert found["values"]["north"]["small"] == "fewer than 30 patients"
