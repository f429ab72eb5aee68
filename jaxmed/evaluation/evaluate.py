"""Evaluation of a model: metrics.json, from the predictions on val and test."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.calibration import Scaling, check_calibration, fit_scaling
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, method_of, units_of
from jaxmed.evaluation.intervals.estimate import (
    LEVEL,
    Estimate,
    Key,
    Measure,
    Undefined,
    as_estimate,
    nested,
)
from jaxmed.evaluation.metrics.calibration_error import (
    BINS,
    CalibrationError,
    reliability,
)
from jaxmed.evaluation.metrics.classification import confusion_matrix
from jaxmed.evaluation.metrics.operating_points import ThresholdDecisions
from jaxmed.evaluation.metrics.probability_scores import Losses, Ratios, Recalibration
from jaxmed.evaluation.metrics.registry import estimate_split, overall
from jaxmed.evaluation.patients import aggregate_patients, check_aggregation
from jaxmed.evaluation.predictions import Predictions, fingerprint_of
from jaxmed.evaluation.subgroups import evaluate_subgroups
from jaxmed.evaluation.thresholds import NO_ONE, ThresholdChoice, ThresholdRule

NOTHING = (
    "a threshold above 1 decides that nothing is positive, which on val costs no more "
    "than any other"
)

# What an evaluation by patient has in common with that by image.
SHARED = ("task", "class_names", "positive_class", "fingerprint")


def evaluate(
    val: Predictions,
    test: Predictions,
    *,
    resamples: int = 2000,
    seed: int = 0,
    threshold: str = "youden",
    target: float = 0.9,
    cost: float = 1.0,
    prevalence: float | None = None,
    calibration: str = "temperature",
    by_patient: str = "mean",
) -> dict[str, Any]:
    """Evaluate a model: every number with a 95 % interval.

    The threshold and the calibration are chosen on `val`; `test` decides nothing.
    Definitions are scikit-learn's; metrics, intervals, thresholds and calibration are
    described where they are computed, in the modules of this package.

    Args:
        val: predictions on the validation split.
        test: predictions on the test split, of the same task and classes.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        threshold: how it is chosen, see `ThresholdRule`, and so are target and cost.
        target: sensitivity or specificity to reach, where the threshold is that.
        cost: of a missed positive, if a false alarm costs 1.
        prevalence: share of positives where the model is to be used, in (0, 1); binary
            tasks only. Predictive values are told at it too, and costs expected at it.
        calibration: how logits are scaled, see `fit_scaling`.
        by_patient: how the probabilities of a patient's images become one, see
            `aggregate_patients`, or "off".

    Returns:
        The content of metrics.json, of plain dicts, lists, strings and numbers. A
        number is {"value", "ci_low", "ci_high"}, with the "method" of an interval that
        is not the bootstrap's, and a "note" where a reader must know more; what is not
        defined, or cannot be told from so few images, is None and has a "reason". Where
        patients have several test images, "by_patient" has it all again with a patient
        in place of an image: threshold and calibration are chosen on val's patients.

    Raises:
        InputError: the splits are exchanged, or differ in task or classes; or an option
            is not one, or not for the task.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(0, 2, 100)
        >>> p = 1 / (1 + np.exp(-3 * (labels - 0.5) - rng.normal(size=100)))
        >>> from jaxmed.evaluation import Predictions
        >>> val = Predictions(
        ...     split="val",
        ...     ids=tuple(map(str, range(100))),
        ...     labels=labels,
        ...     probs=np.stack([1 - p, p], axis=1),
        ...     class_names=("normal", "pneumonia"),
        ...     task="binary",
        ... )
        >>> from dataclasses import replace
        >>> report = evaluate(val, replace(val, split="test"), resamples=200)
        >>> auroc = report["test"]["auroc"]
        >>> [round(auroc[part], 2) for part in ("value", "ci_low", "ci_high")]
        [0.98, 0.95, 0.99]
        >>> report["threshold"]["method"], report["threshold"]["chosen_on"]
        ('youden', 'val')
    """
    _check(val, test)
    options: dict[str, Any] = {
        "threshold": threshold,
        "target": target,
        "cost": cost,
        "prevalence": prevalence,
        "calibration": calibration,
    }
    rule = check_options(val.task, **options, by_patient=by_patient)
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    choice = ThresholdChoice(val, rule)
    thresholds = {key[-1]: value for key, value in choice.values().items()}
    estimates = estimate_split(val, [choice], bootstrap, description="Intervals on val")
    tested = evaluate_test(
        test,
        thresholds=thresholds,
        scaling=fit_scaling(val, calibration),
        calibration=calibration,
        prevalence=prevalence,
        resamples=resamples,
        seed=seed,
    )
    chosen = _threshold(val.task, rule, thresholds, nested(estimates)["threshold"])
    result = _describe(val) | {"intervals": tested.pop("intervals")}
    for name, part in _of_split(val, estimates).items():
        # What both splits have stands side by side.
        result[name] = part | tested.pop(name) if name in tested else part
    result |= {"test": tested.pop("test"), "threshold": chosen} | tested
    if by_patient != "off" and units_of(test).cluster is not None:
        options |= {"resamples": resamples, "seed": seed}
        patients = _by_patient(val, test, by_patient, **options)
        result["by_patient"] = {"aggregation": by_patient} | patients
    return result | {"fingerprint": fingerprint_of([val, test])}


def evaluate_test(
    test: Predictions,
    *,
    thresholds: Mapping[str, float | Undefined],
    scaling: Scaling | Undefined,
    calibration: str = "temperature",
    prevalence: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate predictions with a threshold and a calibration that are given.

    Args:
        test: of images on which nothing was chosen.
        thresholds: by class, of the positive one in binary tasks; those chosen on val,
            see `choose_thresholds`.
        scaling: the calibration fitted on val, see `fit_scaling`.
        calibration: the name of its method.
        prevalence, resamples, seed: see `evaluate`.

    Returns:
        The parts of metrics.json that are about the test split, without the threshold.
    """
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    measures = [
        ThresholdDecisions(test, dict(thresholds), prevalence),
        *_calibration_measures(test, scaling),
    ]
    estimates = estimate_split(
        test, measures, bootstrap, description="Intervals on test"
    )
    tree = nested(estimates)
    result = _describe(test) | {"intervals": _intervals(test, bootstrap)}
    result |= _of_split(test, estimates)
    result |= {
        "test_at_threshold": tree["at_threshold"],
        "calibration": _calibration(test, scaling, calibration, tree["calibration"]),
    }
    if test.columns:
        calibrated = None
        if not isinstance(scaling, Undefined):
            calibrated = scaling.apply(test)
        result["subgroups"] = {
            name: evaluate_subgroups(
                test,
                name,
                thresholds=thresholds,
                calibrated=calibrated,
                resamples=resamples,
                seed=seed,
                prevalence=prevalence,
            )
            for name in test.columns
        }
    return result


def _describe(predictions: Predictions) -> dict[str, Any]:
    described: dict[str, Any] = {
        "task": predictions.task,
        "class_names": list(predictions.class_names),
    }
    if predictions.task == "binary":
        described["positive_class"] = predictions.class_names[1]
    return described


def _of_split(
    predictions: Predictions, estimates: Mapping[Key, Estimate]
) -> dict[str, Any]:
    """Return the parts of metrics.json that every split has, by name."""
    name, tree = predictions.split, nested(estimates)
    parts = {
        name: overall(predictions, estimates),
        "per_class": {name: _per_class(predictions, tree["per_class"])},
    }
    if predictions.task != "binary":
        parts["averages"] = {name: tree["averages"]}
    return parts | {"confusion_matrix": {name: confusion_matrix(predictions)}}


def check_options(
    task: str,
    *,
    threshold: str = "youden",
    target: float = 0.9,
    cost: float = 1.0,
    prevalence: float | None = None,
    calibration: str = "temperature",
    by_patient: str = "mean",
) -> ThresholdRule:
    """Check the options of `evaluate`, before there are predictions to evaluate.

    Returns:
        How a threshold is chosen.

    Raises:
        InputError: one is wrong, or not for the task.
    """
    check_calibration(calibration, task)
    check_aggregation(by_patient, task)
    if prevalence is not None and task != "binary":
        raise InputError(
            f"A prevalence is for binary tasks, and this one is {task}; leave it out."
        )
    return ThresholdRule(
        method=threshold, target=target, cost=cost, prevalence=prevalence
    )


def _by_patient(
    val: Predictions, test: Predictions, method: str, **options: Any
) -> dict[str, Any]:
    """Evaluate patients; a "reason" where that is not defined."""
    if val.groups is None:
        return {"reason": "the patients of val are not known"}
    on_val, on_test = (aggregate_patients(split, method) for split in (val, test))
    if isinstance(on_val, Undefined):
        return {"reason": on_val.reason}
    if isinstance(on_test, Undefined):
        return {"reason": on_test.reason}
    of_patients = evaluate(on_val, on_test, **options)
    return {k: v for k, v in of_patients.items() if k not in SHARED}


def _check(val: Predictions, test: Predictions) -> None:
    for expected, predictions in (("val", val), ("test", test)):
        if predictions.split != expected:
            raise InputError(
                f"The {expected} predictions are of the split {predictions.split!r}. "
                "evaluate takes the val predictions first and the test predictions "
                "second."
            )
    for field in ("task", "class_names"):
        if (a := getattr(val, field)) != (b := getattr(test, field)):
            raise InputError(
                f"The val and test predictions differ in {field}: {a} and {b}."
            )


def _calibration_measures(
    predictions: Predictions, scaling: Scaling | Undefined
) -> list[Measure]:
    at: Key = ("calibration",)
    versions = {"": predictions.probs}
    if not isinstance(scaling, Undefined):
        versions["_calibrated"] = scaling.apply(predictions)
    measures: list[Measure] = []
    for suffix, probs in versions.items():
        measures.append(CalibrationError(predictions, probs, at, suffix))
        if predictions.task == "binary":
            measures.append(Recalibration(predictions, probs, at, suffix))
        keys = (*at, f"log_loss{suffix}"), (*at, f"brier{suffix}")
        measures.append(Losses(predictions, probs, keys))
        measures.append(Ratios(predictions, probs, at, suffix))
    return measures


def _intervals(test: Predictions, bootstrap: Bootstrap) -> dict[str, Any]:
    units = units_of(test)
    return {
        "method": method_of(units),
        "level": LEVEL,
        "resamples": bootstrap.resamples,
        "seed": bootstrap.seed,
        "independent": units.noun,
    }


def _threshold(
    task: str,
    rule: ThresholdRule,
    thresholds: Mapping[str, float | Undefined],
    estimates: Mapping[str, Estimate],
) -> dict[str, Any]:
    """Describe the chosen threshold; its interval is over resamples of val."""
    binary = task == "binary"
    result: dict[str, Any] = {"method": rule.method, "chosen_on": "val"} | rule.used()
    for part in ("value", "ci_low", "ci_high"):
        values = {name: estimates[name][part] for name in thresholds}
        result[part] = next(iter(values.values())) if binary else values
    reasons = {
        name: threshold.reason
        for name, threshold in thresholds.items()
        if isinstance(threshold, Undefined)
    }
    if NO_ONE in thresholds.values():
        result["note"] = NOTHING
    if reasons:
        result["reason"] = next(iter(reasons.values())) if binary else reasons
    return result


def _per_class(
    predictions: Predictions, estimates: Mapping[str, dict[str, Estimate]]
) -> dict[str, Any]:
    support = predictions.truth.sum(axis=0).tolist()
    known = predictions.known.sum(axis=0).tolist()
    result = {}
    for i, name in enumerate(predictions.class_names):
        result[name] = estimates[name] | {"support": support[i]}
        if predictions.task == "multilabel":
            result[name]["n"] = known[i]
    return result


def _calibration(
    test: Predictions,
    scaling: Scaling | Undefined,
    method: str,
    estimates: dict[str, Estimate],
) -> dict[str, Any]:
    shared = {
        "chosen_on": "val",
        "ece_bins": BINS,
    }
    diagrams = {"before": reliability(test)}
    if isinstance(scaling, Undefined):
        reason = Undefined(f"no scaling, as in val: {scaling.reason}")
        missing = as_estimate(reason, np.empty(0))
        none = {f"{name}_calibrated": missing for name in estimates}
        described = {"method": method, "temperature": None, "reason": scaling.reason}
        return described | shared | {"test": estimates | none, "reliability": diagrams}
    diagrams["after"] = reliability(test, scaling.apply(test))
    return scaling.describe() | shared | {"test": estimates, "reliability": diagrams}
