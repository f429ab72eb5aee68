"""Baselines on frozen features: what they predict, and that test decides nothing."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.feature_baselines import fit_feature_classifier
from jaxmed.inference.features import compute_features
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.strategies import create_strategy
from jaxmed.training.fit import fit


def fitted(model, data, name, select="val_auroc", **options):
    preprocessing = preprocessing_of(model, data.image_size, data.resizing)
    strategy = create_strategy(name, model, **options)
    return fit_feature_classifier(
        model, data, strategy, preprocessing=preprocessing, select=select
    )


@pytest.fixture(scope="module")
def model(new_tiny):
    return new_tiny()


@pytest.fixture(scope="module")
def features(model, quarters):
    preprocessing = preprocessing_of(model, quarters.image_size, quarters.resizing)
    return {
        name: compute_features(
            model,
            getattr(quarters, name),
            preprocessing=preprocessing,
        ).astype(np.float64)
        for name in ("train", "val", "test")
    }


def test_neighbors_vote(model, quarters, features):
    predictions, best = fitted(model, quarters, "k_nn", neighbors=5)
    labels = quarters.train.labels
    for split in ("val", "test"):
        for row, feature in enumerate(features[split]):
            distances = np.linalg.norm(features["train"] - feature, axis=1)
            votes = labels[np.argsort(distances)[:5]]
            shares = [(votes == label).mean() for label in range(3)]
            assert predictions[split].probs[row] == pytest.approx(shares, abs=1e-6)
    assert best["phase"] == "k_nn, 5 neighbors"


def test_c_is_chosen_on_val(model, quarters, features):
    penalties = (1e-4, 1e-2, 1.0, 100.0)
    predictions, best = fitted(
        model, quarters, "logistic_regression", penalties=penalties
    )
    mean, std = features["train"].mean(axis=0), features["train"].std(axis=0)
    std[std == 0] = 1
    scaled = {name: (array - mean) / std for name, array in features.items()}
    found = {}
    for c in penalties:
        regression = LogisticRegression(C=c, max_iter=5000)
        regression.fit(scaled["train"], quarters.train.labels)
        probs = regression.predict_proba(scaled["val"])
        auroc = roc_auc_score(quarters.val.labels, probs, multi_class="ovr")
        found[auroc, -c] = regression
    auroc, c = max(found)
    assert best["value"] == pytest.approx(auroc, abs=1e-6)
    assert best["phase"] == f"logistic_regression, C = {-c:g}"
    expected = found[auroc, c].predict_proba(scaled["test"])
    np.testing.assert_allclose(predictions["test"].probs, expected, atol=1e-4)


@pytest.mark.parametrize("select", ["val_loss", "val_accuracy", "val_mcc"])
def test_other_metrics_choose_too(model, quarters, select):
    _, best = fitted(model, quarters, "logistic_regression", select)
    assert best["metric"] == select
    assert np.isfinite(best["value"])


def test_test_labels_decide_nothing(model, quarters):
    other = replace(quarters.test, labels=quarters.test.labels[::-1].copy())
    data = replace(quarters, test=other)
    for name in ("k_nn", "logistic_regression"):
        first, chosen = fitted(model, quarters, name)
        second, again = fitted(model, data, name)
        assert chosen == again
        assert np.array_equal(first["test"].probs, second["test"].probs)


def test_several_labels_are_several_problems(model, quarters):
    def several(split):
        labels = np.stack([split.labels == 0, split.labels > 0], axis=1)
        return replace(split, labels=labels.astype(np.int32))

    data = replace(
        quarters,
        task="multilabel",
        class_names=("a", "b"),
        **{name: several(getattr(quarters, name)) for name in ("train", "val", "test")},
    )
    whole, _ = fitted(model, data, "logistic_regression")
    labels = data.train.labels.copy()
    labels[::2, 1] = MISSING
    some, _ = fitted(
        model,
        replace(data, train=replace(data.train, labels=labels)),
        "logistic_regression",
    )
    np.testing.assert_allclose(whole["test"].probs.sum(axis=1), 1, atol=1e-3)
    assert np.array_equal(whole["test"].probs[:, 0], some["test"].probs[:, 0])
    assert not np.array_equal(whole["test"].probs[:, 1], some["test"].probs[:, 1])


def test_bad_input_is_a_sentence(model, quarters):
    with pytest.raises(InputError, match="neighbors must be at least 1, got 0"):
        create_strategy("k_nn", model, neighbors=0)
    with pytest.raises(InputError, match="at least one C"):
        create_strategy("logistic_regression", model, penalties=[])
    with pytest.raises(InputError, match="must be above 0"):
        create_strategy("logistic_regression", model, penalties=[0.0])
    with pytest.raises(InputError, match="The strategy k_nn trains no network"):
        fit(model, quarters, "k_nn")
    parts = [{"strategy": "frozen"}, {"strategy": "k_nn"}]
    with pytest.raises(InputError, match="Part 2 of the sequence is k_nn, which tra"):
        create_strategy("sequence", model, phases=parts)
