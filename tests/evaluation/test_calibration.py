"""Temperature scaling and the calibration error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jaxmed.evaluation.calibration import (
    TEMPERATURES,
    CalibrationError,
    calibrate,
    fit_temperature,
)
from jaxmed.evaluation.intervals import Bootstrap, Undefined, estimate
from jaxmed.evaluation.predictions import Predictions

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4)]


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
    optimiser = torch.optim.LBFGS(
        [log_temperature],
        max_iter=200,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimiser.zero_grad()
        loss = torch_loss(predictions, logits, log_temperature.exp())
        loss.backward()
        return loss

    optimiser.step(closure)
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
    assert fit_temperature(one) == Undefined("one class only")


def error_by_hand(confidence, right, bins=15):
    """Guo et al. 2017, eq. 3, read aloud."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if m == 1:
            inside |= confidence == 0
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            total += inside.sum() / len(confidence) * abs(gap)
    return total


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_calibration_error_is_guos(draw, task, classes):
    predictions = draw(task, classes=classes, n=500, decimals=None)
    probs = predictions.probs
    if task == "multilabel":
        columns = zip(probs.T, predictions.truth.T, strict=True)
        expected = np.mean([error_by_hand(*pair) for pair in columns])
    else:
        right = probs.argmax(axis=1) == predictions.labels
        expected = error_by_hand(probs.max(axis=1), right)
    value = CalibrationError(predictions).values()[("ece",)]
    assert value == pytest.approx(expected, rel=0, abs=1e-12)


def test_calibration_error_of_four_images(draw):
    # Confidences 0.75 (right, wrong) and 0.625 (right, right), in bins of their own.
    rows = [[0.25, 0.75], [0.25, 0.75], [0.375, 0.625], [0.375, 0.625]]
    predictions = replace(
        draw("binary", classes=2, n=4),
        labels=np.array([1, 0, 1, 1]),
        probs=np.array(rows),
    )
    value = CalibrationError(predictions).values()[("ece",)]
    assert value == (abs(0.5 - 0.75) + abs(1 - 0.625)) / 2


def test_the_error_lies_within_its_interval():
    """Without the shift the interval of a small error lies wholly above it."""
    rng = np.random.default_rng(0)
    probs = rng.uniform(0.5, 1, 400)
    labels = (rng.random(400) < probs).astype(int)
    predictions = Predictions(
        split="test",
        ids=tuple(map(str, range(400))),
        labels=labels,
        probs=np.stack([1 - probs, probs], axis=1),
        class_names=("a", "b"),
        task="binary",
    )
    measure = CalibrationError(predictions)
    strata = np.zeros(400, np.int64)
    shifted = estimate([measure], strata, Bootstrap(resamples=500))[("ece",)]
    assert 0 <= shifted["ci_low"] < shifted["value"] < shifted["ci_high"]
    counts = np.concatenate(list(Bootstrap(resamples=500).counts(strata)), axis=1)
    samples = measure.resampled(counts)[("ece",)]
    assert samples.mean() > shifted["value"] + 0.01
