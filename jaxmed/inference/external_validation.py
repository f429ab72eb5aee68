"""External validation: a finished model on labeled images of another source.

Threshold, calibration and preprocessing stay those of the run; nothing here chooses
any of them. What the new images would change is measured beside that, and not used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from jaxmed.data.dataset import Dataset, SourceImages, Split, Task
from jaxmed.data.sources.external import as_external, load_external, match_classes
from jaxmed.errors import InputError
from jaxmed.evaluation.calibration import Scaling, read_scaling
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.evaluate import evaluate_test
from jaxmed.evaluation.external.refitting import DRAWS, refitting_curve
from jaxmed.evaluation.external.sample_size import images_needed
from jaxmed.evaluation.external.unpaired import unpaired_differences
from jaxmed.evaluation.intervals.auc import newcombe
from jaxmed.evaluation.intervals.bootstrap import units_of
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.intervals.proportions import shares
from jaxmed.evaluation.patients import aggregate_patients
from jaxmed.evaluation.predictions import Predictions, fingerprint_of
from jaxmed.evaluation.thresholds import read_rule
from jaxmed.inference.forward import largest_batch
from jaxmed.inference.predictor import Predictor, average
from jaxmed.inference.saved_model import load_model
from jaxmed.runs.detector import OOD_THRESHOLD
from jaxmed.runs.ensemble import gain
from jaxmed.runs.training_overlap import TrainingOverlap, find_training_overlap
from jaxmed.runtime.progress import progress

# What `allow` may name.
ALLOWED = ("overlap", "channels")
# The parts of metrics.json whose estimates are compared with the internal test.
COMPARED = ("test", "test_at_threshold", "per_class", "averages")


class TrainedOnImages(InputError):
    """The external set has images or patients that the run was trained on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """A model on an external set.

    Attributes:
        name: of the set.
        metrics: the content of its metrics.json. As for a run, "test" is about the
            images tested, which here are the external ones; "difference" is that from
            the run's own test, "validation" describes set and run, "refitting" and
            "images_needed" say what the new images would change.
        predictions: for the images, in their order, before calibration.
        images: with labels in the model's classes.
        predictor: the model.
    """

    name: str
    metrics: dict[str, Any]
    predictions: Predictions = field(repr=False)
    images: Split = field(repr=False)
    predictor: Predictor = field(repr=False)


def validate(
    run: str | Path | Predictor,
    data: str | Dataset | SourceImages,
    *,
    mapping: Mapping[str, str] | None = None,
    splits: Sequence[str] = (),
    group_pattern: str = "",
    allow: Sequence[str] = (),
    name: str = "",
    on_error: str = "stop",
    memory_budget: float | None = None,
    draws: int = DRAWS,
) -> Validation:
    """Validate a model on labeled images of another source.

    Args:
        run: the folder of a finished run, of `save_model`, or of an arm, whose runs are
            an ensemble; or what `load_model` returned for one.
        data: a source, as `load_dataset` takes it, or images that are loaded already.
        mapping: by class of the source that of the run, "" to leave its images out; the
            others are matched by name.
        splits: of the source, some of train, val and test; none for all its images.
        group_pattern: finds an image's patient in its id, as for a split by patient.
        allow: "overlap" to go on where images or patients were trained on, "channels"
            where images have color and those of training had none, or the reverse.
        name: of the set; by default the source's.
        on_error, memory_budget: see `load_dataset`.
        draws: of images to refit threshold and calibration on, of each number.

    Raises:
        TrainedOnImages: the run was trained on images or patients of the set.
        InputError: there is no finished run, or the images cannot be loaded, or are of
            unknown classes, of one class only, or of other channels.

    Examples:
        The run's numbers on the X-rays of another hospital, and how far they are from
        those of its own test images::

            found = jaxmed.validate("runs/mine/frozen/seed-0", "folder:other_hospital")
            found.metrics["test_at_threshold"]["sensitivity"]
            found.metrics["difference"]["test"]["auroc"]
    """
    if draws < 1:
        raise InputError(f"draws must be at least 1, got {draws}.")
    for word in allow:
        if word not in ALLOWED:
            raise InputError(f"allow takes {' and '.join(ALLOWED)}, got {word!r}.")
    predictor = run if isinstance(run, Predictor) else load_model(run)
    if isinstance(data, str):
        external = load_external(
            data,
            predictor.preprocessing,
            splits=splits,
            group_pattern=group_pattern,
            on_error=on_error,
            memory_budget=memory_budget,
        )
    else:
        external = as_external(data, splits=splits, group_pattern=group_pattern)
    matched, notes = match_classes(
        external, predictor.class_names, cast("Task", predictor.task), mapping or {}
    )
    images = matched.splits[""]
    notes += tuple(f"{external.source}: {note}" for note in external.notes)
    notes += _check_channels(predictor, external.source, images, "channels" in allow)
    overlap = _find_overlap(predictor, external.source, images, "overlap" in allow)
    predictions, members, scores = _predict(predictor, images)
    described = {
        # It is a folder's name.
        "name": name or re.sub(r"[^\w.-]+", "_", external.name),
        "source": external.source,
        "fingerprint": images.digests["images"],
        "run": {
            "name": predictor.name,
            "folder": None if predictor.folder is None else str(predictor.folder),
            "fingerprints": dict(predictor.fingerprints),
        },
        "skipped": len(external.skipped),
        "notes": [*notes, *_notes_on_overlap(overlap)],
    }
    if scores is not None:
        described["out_of_distribution"] = _describe_ood(predictor, predictions, scores)
    metrics = _evaluate(predictor, predictions, draws) | {"validation": described}
    if members:
        described["ensemble"] = {"gain": _gain(predictor, predictions, members)}
    return Validation(
        name=described["name"],
        metrics=metrics,
        predictions=predictions,
        images=images,
        predictor=predictor,
    )


def _check_channels(
    predictor: Predictor, source: str, images: Split, allowed: bool
) -> tuple[str, ...]:
    """Refuse color images where training had gray ones, and the reverse."""
    shape = predictor.environment["data"]["image_shape"]
    trained, given = int(shape[2]), int(images.images.shape[3])
    if trained == given:
        return ()
    words = {1: "gray", 3: "RGB"}
    text = f"{source} has {words[given]} images, and the run was trained on "
    text += f"{words[trained]} ones"
    if allowed:
        return (text,)
    raise InputError(
        f"{text}: it may be another modality. --allow channels goes on, and brings the "
        "images to the network's channels."
    )


def _find_overlap(
    predictor: Predictor, source: str, images: Split, allowed: bool
) -> TrainingOverlap | None:
    folders = [network.folder for network in predictor.networks]
    known = [folder for folder in folders if folder is not None]
    overlap = find_training_overlap(known, images) if known == folders else None
    if overlap and not allowed:
        raise TrainedOnImages(
            f"The run was trained or selected on {overlap.describe()} of {source}, so "
            "its results there would look better than they are. Leave them out; "
            "--allow overlap goes on all the same."
        )
    return overlap


def _notes_on_overlap(overlap: TrainingOverlap | None) -> list[str]:
    if overlap is None:
        return ["the run does not say which images it was trained on: not compared"]
    notes = []
    if overlap:
        notes.append(f"the run was trained or selected on {overlap.describe()}")
    if overlap.tested:
        notes.append(
            f"{overlap.tested:,} images are in the run's own test too, so the "
            "difference from it is not one of independent images"
        )
    if not overlap.pixels:
        notes.append("compared with the training images by id alone, not by pixels")
    return notes


def _predict(
    predictor: Predictor, images: Split
) -> tuple[Predictions, list[np.ndarray], np.ndarray | None]:
    """Return predictions, each member's probabilities, and out-of-distribution scores.

    There are no members' where there is one network.
    """
    size = min(largest_batch(), len(images))
    outputs: list[tuple[np.ndarray, np.ndarray]] = []
    for network in predictor.load_networks():
        chunks = []
        with progress("Predicting", len(images), unit="images") as advance:
            for chunk in network.batches(images.images, size):
                chunks.append(chunk)
                advance(len(chunk[0]))
        probs, features = (np.concatenate(part) for part in zip(*chunks, strict=True))
        outputs.append((probs, features))
    probs, features = average(outputs)
    predictions = Predictions(
        split="test",
        ids=images.ids,
        labels=images.labels,
        probs=probs,
        class_names=predictor.class_names,
        task=predictor.task,
        groups=images.groups,
        columns=images.columns,
    )
    members = [probs for probs, _ in outputs] if len(outputs) > 1 else []
    return predictions, members, predictor.score_ood(features)


def _evaluate(
    predictor: Predictor, predictions: Predictions, draws: int
) -> dict[str, Any]:
    """Evaluate with the run's threshold and calibration, and compare with its test."""
    internal = predictor.metrics
    resampling = {name: internal["intervals"][name] for name in ("resamples", "seed")}
    metrics = {"tta": predictor.views, "threshold": dict(internal["threshold"])}
    metrics |= _evaluate_as(internal, predictions, **resampling)
    of_patients = internal.get("by_patient", {"reason": ""})
    if "reason" not in of_patients and units_of(predictions).cluster is not None:
        aggregation = of_patients["aggregation"]
        patients = aggregate_patients(predictions, aggregation)
        metrics["by_patient"] = {"aggregation": aggregation} | (
            {"reason": patients.reason}
            if isinstance(patients, Undefined)
            else _evaluate_as(of_patients, patients, **resampling)
        )
    difference = unpaired_differences(
        {name: metrics[name] for name in COMPARED if name in metrics}
        | {"calibration": metrics["calibration"]["test"]},
        {name: internal[name] for name in COMPARED if name in internal}
        | {"calibration": internal["calibration"]["test"]},
    )
    thresholds, scaling = _chosen(internal, predictions)
    refitting = refitting_curve(
        predictions,
        rule=read_rule(internal["threshold"]),
        calibration=internal["calibration"]["method"],
        thresholds=thresholds,
        scaling=scaling,
        draws=draws,
        seed=resampling["seed"],
    )
    return metrics | {
        "fingerprint": fingerprint_of([predictions]),
        "difference": difference,
        "refitting": refitting,
        "images_needed": images_needed(metrics),
    }


def _evaluate_as(
    internal: Mapping[str, Any], predictions: Predictions, **resampling: int
) -> dict[str, Any]:
    """Evaluate with the threshold and the calibration that metrics.json says."""
    thresholds, scaling = _chosen(internal, predictions)
    return evaluate_test(
        predictions,
        thresholds=thresholds,
        scaling=scaling,
        calibration=internal["calibration"]["method"],
        prevalence=internal["threshold"].get("prevalence"),
        **resampling,
    )


def _chosen(
    internal: Mapping[str, Any], predictions: Predictions
) -> tuple[dict[str, float | Undefined], Scaling | Undefined]:
    """Return thresholds by class and calibration, or why there are none."""
    rule, calibration = internal["threshold"], internal["calibration"]
    names, parts = predictions.class_names, (rule["value"], rule.get("reason", ""))
    if predictions.task == "binary":
        names, parts = names[1:], tuple({names[1]: part} for part in parts)
    values, reasons = (part or {} for part in parts)
    thresholds = {
        name: Undefined(reasons.get(name, "none was chosen"))
        if values.get(name) is None
        else values[name]
        for name in names
    }
    scaling = read_scaling(calibration)
    return thresholds, scaling or Undefined(calibration.get("reason", "none"))


def _describe_ood(
    predictor: Predictor, predictions: Predictions, scores: np.ndarray
) -> dict[str, Any]:
    """Return the share of images out of distribution, and how far they are from val."""
    units = units_of(predictions)
    flagged = units.sums((scores > OOD_THRESHOLD)[:, None].astype(float)).T
    trials = units.sums(np.ones((len(scores), 1))).T
    (share,) = shares(flagged, trials, clustered=units.cluster is not None)
    # A score is the share of val that is nearer: its mean is the AUROC, but for ties.
    value, val = float(scores.mean()), predictor.metrics["val"]["n"]
    return {
        "threshold": OOD_THRESHOLD,
        "share": _estimate(share.value, share.interval),
        "auroc_against_val": _estimate(value, newcombe(value, len(scores), val)),
    }


def _estimate(value: float, interval: Any) -> dict[str, Any]:
    low, high, method = interval
    return {"value": value, "ci_low": low, "ci_high": high, "method": method}


def _gain(
    predictor: Predictor, predictions: Predictions, members: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return how much better an ensemble is than its members are on average."""
    ours = apply_thresholds(predictions, predictor.thresholds)
    each = [
        apply_thresholds(replace(predictions, probs=probs), member.thresholds)
        for probs, member in zip(members, predictor.networks, strict=True)
    ]
    return gain([ours], each)
