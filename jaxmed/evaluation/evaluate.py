"""Everything that metrics.json holds, from the predictions on val and test."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.calibration import (
    BINS,
    CalibrationError,
    calibrate,
    fit_temperature,
)
from jaxmed.evaluation.intervals import (
    LEVEL,
    Bootstrap,
    Estimate,
    Key,
    Measure,
    Undefined,
    as_estimate,
    estimate,
    method_of,
    strata_of,
)
from jaxmed.evaluation.losses import Losses
from jaxmed.evaluation.metrics import Decisions, confusion_matrix
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.ranking import Ranking
from jaxmed.evaluation.thresholds import ThresholdDecisions, choose_thresholds

OVERALL = ("accuracy", "balanced_accuracy", "auroc", "log_loss", "brier")
PER_CLASS = ("precision", "recall", "f1", "auroc")
CALIBRATION = ("ece", "ece_calibrated", "brier", "brier_calibrated")
AT_THRESHOLD = (
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "youden_j",
)


def evaluate(
    val: Predictions, test: Predictions, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Evaluates a model: every number with a 95 % interval.

    The threshold and the temperature are chosen on `val`; `test` decides nothing.
    Values come from scikit-learn; metrics, intervals, thresholds and calibration are
    described where they are computed, in the modules of this package.

    Args:
        val: predictions on the validation split.
        test: predictions on the test split, of the same task and classes.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The content of metrics.json, of plain dicts, lists, strings and numbers. A
        number is {"value", "ci_low", "ci_high"}; one that is not defined has None for
        them and a "reason".

    Raises:
        InputError: the splits are exchanged, or differ in task or classes.
    """
    _check(val, test)
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    thresholds = choose_thresholds(val)
    temperature = fit_temperature(val)
    measures = {
        "val": _measures(val),
        "test": [
            *_measures(test),
            ThresholdDecisions(test, thresholds),
            *_calibration_measures(test, temperature),
        ],
    }
    splits = {"val": val, "test": test}
    estimates = {
        name: estimate(
            measures[name],
            strata_of(predictions.labels),
            bootstrap,
            description=f"Intervals on {name}",
        )
        for name, predictions in splits.items()
    }
    result: dict[str, Any] = {"task": val.task, "class_names": list(val.class_names)}
    if val.task == "binary":
        result["positive_class"] = val.class_names[1]
    result["intervals"] = {
        "method": method_of(val.task),
        "level": LEVEL,
        "resamples": resamples,
        "seed": seed,
    }
    for name, predictions in splits.items():
        overall = {metric: estimates[name][(metric,)] for metric in OVERALL}
        result[name] = {"n": len(predictions.ids)} | overall
    return result | {
        "threshold": _threshold(val.task, thresholds),
        "test_at_threshold": _at_threshold(test.task, thresholds, estimates["test"]),
        "per_class": {
            name: _per_class(predictions, estimates[name])
            for name, predictions in splits.items()
        },
        "confusion_matrix": {
            name: confusion_matrix(predictions) for name, predictions in splits.items()
        },
        "calibration": _calibration(temperature, estimates["test"]),
    }


def _check(val: Predictions, test: Predictions) -> None:
    for expected, predictions in (("val", val), ("test", test)):
        if predictions.split != expected:
            raise InputError(
                f"The {expected} predictions are of the split {predictions.split!r}. "
                "evaluate takes the val predictions first and the test predictions "
                "second."
            )
    for what in ("task", "class_names"):
        if (a := getattr(val, what)) != (b := getattr(test, what)):
            raise InputError(
                f"The val and test predictions differ in {what}: {a} and {b}."
            )


def _measures(predictions: Predictions) -> list[Measure]:
    return [Decisions(predictions), Losses(predictions), Ranking(predictions)]


def _calibration_measures(
    predictions: Predictions, temperature: float | Undefined
) -> list[Measure]:
    before = CalibrationError(predictions)
    if isinstance(temperature, Undefined):
        return [before]
    probs = calibrate(predictions, temperature)
    after = CalibrationError(predictions, probs, "_calibrated")
    return [before, after, Losses(predictions, probs, "_calibrated")]


def _threshold(task: str, thresholds: dict[str, float | Undefined]) -> dict[str, Any]:
    reasons = {
        name: threshold.reason
        for name, threshold in thresholds.items()
        if isinstance(threshold, Undefined)
    }
    values = {
        name: None if isinstance(threshold, Undefined) else threshold
        for name, threshold in thresholds.items()
    }
    (binary,) = values.values() if task == "binary" else (values,)
    result = {"method": "youden", "value": binary, "chosen_on": "val"}
    if reasons:
        result["reason"] = next(iter(reasons.values())) if task == "binary" else reasons
    return result


def _at_threshold(
    task: str, names: Sequence[str] | dict, estimates: dict[Key, Estimate]
) -> dict[str, Any]:
    if task == "binary":
        return {metric: estimates["at_threshold", metric] for metric in AT_THRESHOLD}
    return {
        name: {
            metric: estimates["at_threshold", name, metric] for metric in AT_THRESHOLD
        }
        for name in names
    }


def _per_class(
    predictions: Predictions, estimates: dict[Key, Estimate]
) -> dict[str, Any]:
    supports = predictions.truth.sum(axis=0).tolist()
    return {
        name: {metric: estimates["per_class", name, metric] for metric in PER_CLASS}
        | {"support": support}
        for name, support in zip(predictions.class_names, supports, strict=True)
    }


def _calibration(
    temperature: float | Undefined, estimates: dict[Key, Estimate]
) -> dict[str, Any]:
    undefined = isinstance(temperature, Undefined)
    result: dict[str, Any] = {
        "temperature": None if undefined else temperature,
        "chosen_on": "val",
        "ece_bins": BINS,
        "ece_intervals": "percentile bootstrap, shifted by its bias",
    }
    missing = None
    if undefined:
        result["reason"] = temperature.reason
        reason = Undefined(f"no temperature, as in val: {temperature.reason}")
        missing = as_estimate(reason, np.empty(0))
    result["test"] = {name: estimates.get((name,), missing) for name in CALIBRATION}
    return result
