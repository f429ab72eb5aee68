"""Scalings of the logits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from jaxmed.errors import InputError
from jaxmed.evaluation.calibration import (
    TEMPERATURES,
    Scaling,
    fit_scaling,
    read_scaling,
)
from jaxmed.evaluation.intervals.estimate import Undefined

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4)]


def fit_temperature(predictions):
    return fit_scaling(predictions).temperature


def calibrate(predictions, temperature):
    scale = np.array([1 / temperature])
    scaling = Scaling(method="temperature", scale=scale, bias=np.zeros(1))
    return scaling.apply(predictions)


def torch_loss(predictions, logits, temperature):
    labels = torch.tensor(predictions.labels)
    scaled = logits / temperature
    if predictions.task == "multilabel":
        return torch.nn.functional.binary_cross_entropy_with_logits(
            scaled, labels.double()
        )
    return torch.nn.functional.cross_entropy(scaled, labels)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_temperature_is_torchs_optimum(draw, task, classes):
    predictions = draw(task, classes=classes, n=400, decimals=None)
    probs = torch.tensor(predictions.probs)
    multilabel = task == "multilabel"
    logits = torch.logit(probs) if multilabel else torch.log(probs)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature],
        max_iter=200,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = torch_loss(predictions, logits, log_temperature.exp())
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = log_temperature.exp().item()
    assert fit_temperature(predictions) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_calibrated_probabilities_are_torchs(draw, task, classes):
    predictions = draw(task, classes=classes, decimals=None)
    probs = torch.tensor(predictions.probs)
    if task == "multilabel":
        expected = torch.sigmoid(torch.logit(probs) / 1.7)
    else:
        expected = torch.softmax(torch.log(probs) / 1.7, dim=1)
    result = calibrate(predictions, 1.7)
    assert result == pytest.approx(expected.numpy(), rel=1e-12)
    same = calibrate(predictions, 1.0)
    assert same == pytest.approx(predictions.probs, rel=1e-6)


def test_a_known_temperature_is_recovered(draw):
    """Labels drawn from softmax(z), probabilities given as softmax(2.5 z)."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3))
    noise = random.gumbel(size=logits.shape)
    overconfident = np.exp(2.5 * logits)
    predictions = replace(
        draw(n=20_000, classes=3),
        labels=(logits + noise).argmax(axis=1),
        probs=overconfident / overconfident.sum(axis=1, keepdims=True),
    )
    assert fit_temperature(predictions) == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_certain_predictions(draw, task):
    """Probabilities of exactly 0 and 1: no infinite logit, no warning, no NaN."""
    predictions = draw(task, classes=2, n=10)
    certain = predictions.truth.astype(np.float32)
    right = replace(predictions, probs=certain)
    assert TEMPERATURES[0] <= fit_temperature(right) < 1
    unsure = replace(predictions, probs=0.4 + 0.2 * certain)
    assert fit_temperature(unsure) == pytest.approx(TEMPERATURES[0])
    assert (calibrate(right, TEMPERATURES[0]).round() == certain).all()
    wrong = replace(predictions, probs=1 - certain)
    assert fit_temperature(wrong) == pytest.approx(TEMPERATURES[1])
    assert np.isfinite(calibrate(wrong, TEMPERATURES[1])).all()


def test_one_class_has_no_temperature(draw):
    predictions = draw("binary", classes=2, n=10)
    one = replace(predictions, labels=np.zeros(10, int))
    assert fit_scaling(one) == Undefined("one class only")


def platt_by_scikit_learn(logits, truth):
    """Logistic regression without a penalty on Platt's soft targets."""
    positives, negatives = truth.sum(), (~truth).sum()
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    targets = np.where(truth, high, low)
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    model.fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(truth)),
        sample_weight=np.append(targets, 1 - targets),
    )
    return model.coef_[0, 0], model.intercept_[0]


def test_platt_is_scikit_learns_logistic_regression(draw):
    predictions = draw("binary", classes=2, n=300, decimals=None)
    scaling = fit_scaling(predictions, "platt")
    logits = np.log(predictions.probs[:, 1] / predictions.probs[:, 0])
    scale, bias = platt_by_scikit_learn(logits, predictions.labels == 1)
    assert scaling.scale == pytest.approx([scale], rel=1e-4)
    assert scaling.bias == pytest.approx([bias], rel=1e-4)
    expected = 1 / (1 + np.exp(-(scaling.scale * logits + scaling.bias)))
    assert scaling.apply(predictions)[:, 1] == pytest.approx(expected, abs=1e-12)
    assert scaling.apply(predictions).sum(axis=1) == pytest.approx(np.ones(300))


def test_platt_is_for_each_label_and_of_known_ones(draw):
    predictions = draw("multilabel", classes=3, n=200, decimals=None)
    labels = predictions.labels.copy()
    labels[50:90, 1] = -1
    labels[:, 2] = 1
    scaling = fit_scaling(replace(predictions, labels=labels), "platt")
    logits = np.log(predictions.probs / (1 - predictions.probs))
    for i in (0, 1):
        known = labels[:, i] >= 0
        expected = platt_by_scikit_learn(logits[known, i], labels[known, i] == 1)
        found = scaling.scale[i], scaling.bias[i]
        assert found == pytest.approx(expected, rel=1e-4)
    # A label that every image has is left as it is.
    assert (scaling.scale[2], scaling.bias[2]) == (1, 0)


@pytest.mark.parametrize(
    ("method", "task", "classes"),
    [
        ("temperature", "multiclass", 3),
        ("vector", "multiclass", 3),
        ("platt", "binary", 2),
        ("platt", "multilabel", 3),
    ],
)
def test_a_scaling_is_read_from_what_it_wrote(draw, method, task, classes):
    predictions = draw(task, classes=classes, n=80)
    scaling = fit_scaling(predictions, method)
    again = read_scaling(json.loads(json.dumps(scaling.describe())))
    expected = scaling.apply(predictions)
    assert again.apply(predictions) == pytest.approx(expected, abs=1e-12)


def test_there_is_no_scaling_where_none_was_fitted():
    assert read_scaling({"method": "platt", "temperature": None, "reason": "x"}) is None
    # As runs wrote it before there was another method.
    assert read_scaling({"temperature": 2.0}).scale == 0.5


def test_platt_of_separated_classes_is_finite(draw):
    predictions = draw("binary", classes=2, n=10)
    certain = predictions.truth.astype(float)
    scaling = fit_scaling(replace(predictions, probs=certain), "platt")
    assert np.isfinite(scaling.apply(predictions)).all()


def test_vector_scaling_is_torchs_optimum(draw):
    predictions = draw("multiclass", classes=4, n=500, decimals=None)
    scaling = fit_scaling(predictions, "vector")
    logits = torch.log(torch.tensor(predictions.probs))
    labels = torch.tensor(predictions.labels)
    numbers = [torch.ones(4), torch.zeros(4)]
    numbers = [one.double().requires_grad_() for one in numbers]
    optimizer = torch.optim.LBFGS(
        numbers,
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        scaled = numbers[0] * logits + numbers[1]
        loss = torch.nn.functional.cross_entropy(scaled, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    scale, bias = (one.detach().numpy() for one in numbers)
    assert scaling.scale == pytest.approx(scale, rel=1e-4)
    assert scaling.bias == pytest.approx(bias - bias.mean(), abs=1e-4)
    expected = torch.softmax(numbers[0] * logits + numbers[1], dim=1).detach()
    assert scaling.apply(predictions) == pytest.approx(expected.numpy(), abs=1e-5)


def test_missing_labels_do_not_set_the_temperature(draw):
    predictions = draw("multilabel", classes=2, n=100, decimals=None)
    half = replace(
        predictions,
        ids=predictions.ids[:50],
        labels=predictions.labels[:50],
        probs=predictions.probs[:50],
    )
    labels = predictions.labels.copy()
    labels[50:] = -1
    masked = replace(predictions, labels=labels)
    assert fit_temperature(masked) == pytest.approx(fit_temperature(half), rel=1e-6)
    assert isinstance(fit_scaling(replace(masked, labels=labels * 0 - 1)), Undefined)


def test_refused(draw):
    with pytest.raises(InputError, match="Did you mean 'vector'"):
        fit_scaling(draw(), "vectro")
    with pytest.raises(
        InputError, match=r"not for a binary one\. Use temperature or pl"
    ):
        fit_scaling(draw("binary", classes=2), "vector")


def test_a_temperature_at_the_end_of_the_search_says_so(draw):
    val = draw("binary", classes=2, n=100, split="val", decimals=None)
    assert "note" not in fit_scaling(val).describe()
    right = np.where(val.truth, 0.6, 0.4)
    found = fit_scaling(replace(val, probs=right)).describe()
    assert found["temperature"] == pytest.approx(0.05)
    assert "more extreme probabilities are always better" in found["note"]
    wrong = fit_scaling(replace(val, probs=1 - right)).describe()
    assert wrong["temperature"] == pytest.approx(20)
    assert "less extreme" in wrong["note"]
