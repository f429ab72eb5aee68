"""Calibration errors and reliability diagrams."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import foldnorm
from sklearn.calibration import calibration_curve

from jaxmed.errors import InputError
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units, units_of
from jaxmed.evaluation.intervals.estimate import Undefined, estimate
from jaxmed.evaluation.metrics.calibration_error import (
    BINS,
    CalibrationError,
    reliability,
)
from jaxmed.evaluation.predictions import Predictions

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4)]


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


def plug_ins(predictions):
    """The plain averages, by name."""
    remarks = CalibrationError(predictions).remarks(units_of(predictions))
    return {key[-1]: one["plug_in"] for key, one in remarks.items()}


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_calibration_error_is_guos(draw, task, classes):
    predictions = draw(task, classes=classes, n=500, decimals=None)
    probs = predictions.probs
    if task == "binary":
        expected = error_by_hand(probs[:, 1], predictions.labels)
    elif task == "multilabel":
        columns = zip(probs.T, predictions.truth.T, strict=True)
        expected = np.mean([error_by_hand(*pair) for pair in columns])
    else:
        right = probs.argmax(axis=1) == predictions.labels
        expected = error_by_hand(probs.max(axis=1), right)
    assert plug_ins(predictions)["ece"] == pytest.approx(expected, rel=0, abs=1e-12)


def test_calibration_error_of_four_images(draw):
    # Confidences 0.75 (right, wrong) and 0.625 (right, right), in bins of their own.
    rows = [[0.25, 0.75], [0.25, 0.75], [0.375, 0.625], [0.375, 0.625]]
    predictions = replace(
        draw("binary", classes=2, n=4),
        labels=np.array([1, 0, 1, 1]),
        probs=np.array(rows),
    )
    assert plug_ins(predictions)["ece"] == (abs(0.5 - 0.75) + abs(1 - 0.625)) / 2


def of_probabilities(probs, labels):
    return Predictions(
        split="test",
        ids=tuple(map(str, range(len(probs)))),
        labels=labels.astype(int),
        probs=np.stack([1 - probs, probs], axis=1),
        class_names=("a", "b"),
        task="binary",
    )


def test_the_noise_that_is_taken_off_is_that_of_folded_normals():
    """The gaps at the error that is reported have the mean that was seen."""
    rng = np.random.default_rng(1)
    probs = rng.random(600)
    predictions = of_probabilities(probs, rng.random(600) < probs**1.5)
    value = CalibrationError(predictions).values()[("ece",)]
    bins = reliability(predictions)
    n = np.array([one["n"] for one in bins])
    predicted = np.array([one["predicted"] for one in bins])
    observed = np.array([one["observed"]["value"] for one in bins])
    share = (observed * n + predicted) / (n + 1)
    noise = np.sqrt(share * (1 - share) / n)
    gaps = np.abs(observed - predicted)
    plug_in = (n / 600 * gaps).sum()
    means = foldnorm.mean(gaps * value / plug_in / noise, scale=noise)
    assert (n / 600 * means).sum() == pytest.approx(plug_in, abs=1e-9)
    assert 0.05 < value < plug_in


def test_a_calibrated_model_may_have_no_error():
    """Its interval begins at 0, but for one in forty test sets."""
    rng = np.random.default_rng(0)
    beyond, values, plain = 0, [], []
    for _ in range(100):
        probs = rng.beta(0.5, 2, 156)
        predictions = of_probabilities(probs, rng.random(156) < probs)
        found = estimate(
            [CalibrationError(predictions)], Units(156), Bootstrap(resamples=1)
        )[("ece",)]
        assert found["ci_low"] <= found["value"] <= found["ci_high"]
        assert found["value"] < found["plug_in"]
        beyond += found["ci_low"] > 0
        values.append(found["value"])
        plain.append(found["plug_in"])
    assert beyond <= 8
    assert np.mean(values) < np.mean(plain) / 2


def test_probabilities_that_are_all_too_low_are_an_error():
    """Of the most probable class too little and too much confidence would cancel."""
    rng = np.random.default_rng(0)
    probs = rng.choice([0.2, 0.8], 20_000)
    predictions = of_probabilities(probs, rng.random(20_000) < probs + 0.1)
    found = estimate(
        [CalibrationError(predictions)], Units(20_000), Bootstrap(resamples=1)
    )
    for name in ("ece", "ece_equal_mass", "ace"):
        one = found[(name,)]
        assert one["ci_low"] < 0.1 < one["ci_high"]
        assert one["ci_high"] - one["ci_low"] < 0.02


def error_of_equal_parts(confidence, right):
    """Sorted and cut into parts of one size."""
    order = np.argsort(confidence)
    parts = np.split(order, BINS)
    return np.mean([abs(right[p].mean() - confidence[p].mean()) for p in parts])


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_errors_of_bins_of_equal_mass(draw, task, classes):
    predictions = draw(task, classes=classes, n=20 * BINS, decimals=None)
    probs, truth = predictions.probs, predictions.truth
    values = plug_ins(predictions)
    each = [error_of_equal_parts(probs[:, i], truth[:, i]) for i in range(classes)]
    expected = each[1] if task == "binary" else np.mean(each)
    assert values["ace"] == pytest.approx(expected, abs=1e-12)
    if task in ("binary", "multilabel"):
        expected = each[1] if task == "binary" else np.mean(each)
    else:
        right = probs.argmax(axis=1) == predictions.labels
        expected = error_of_equal_parts(probs.max(axis=1), right)
    assert values["ece_equal_mass"] == pytest.approx(expected, abs=1e-12)


def test_errors_leave_out_missing_labels(draw):
    predictions = draw("multilabel", classes=2, n=100, decimals=None)
    labels = predictions.labels.copy()
    labels[:40, 0] = -1
    values = plug_ins(replace(predictions, labels=labels))
    known = labels[:, 0] >= 0
    pairs = [
        (predictions.probs[known, 0], labels[known, 0]),
        (predictions.probs[:, 1], labels[:, 1]),
    ]
    expected = np.mean([error_by_hand(*pair) for pair in pairs])
    assert values["ece"] == pytest.approx(expected, abs=1e-12)
    nothing = CalibrationError(replace(predictions, labels=labels * 0 - 1)).values()
    assert nothing[("ece",)] == Undefined("no label is known")


@pytest.mark.parametrize("bins", ["equal_width", "equal_mass"])
@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_reliability_is_scikit_learns(draw, task, classes, bins):
    predictions = draw(task, classes=classes, n=300, decimals=None)
    probs = predictions.probs
    if task == "binary":
        predicted, truth = probs[:, 1], predictions.labels == 1
    elif task == "multilabel":
        predicted, truth = probs.ravel(), predictions.labels.ravel()
    else:
        predicted = probs.max(axis=1)
        truth = probs.argmax(axis=1) == predictions.labels
    strategy = {"equal_width": "uniform", "equal_mass": "quantile"}[bins]
    expected = calibration_curve(truth, predicted, n_bins=BINS, strategy=strategy)
    found = reliability(predictions, bins=bins)
    assert [one["observed"]["value"] for one in found] == pytest.approx(expected[0])
    assert [one["predicted"] for one in found] == pytest.approx(expected[1])
    assert sum(one["n"] for one in found) == len(predicted)
    for one in found:
        share = one["observed"]
        assert 0 <= share["ci_low"] <= share["value"] <= share["ci_high"] <= 1
        assert share["ci_low"] < share["ci_high"]


def test_reliability_of_unknown_bins(draw):
    with pytest.raises(InputError, match="Did you mean 'equal_mass'"):
        reliability(draw(), bins="equal-mass")
