"""Ensembles: all runs of an arm, its seeds or folds, whose probabilities are averaged.

Threshold and calibration are chosen on the averaged predictions of val. Where members
have validation images of their own, as in cross-validation, each image's prediction is
that of the members which it was val for, so that none was trained on it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.alignment import ScoredPredictions, apply_thresholds
from jaxmed.evaluation.comparison.arms import overall_keys
from jaxmed.evaluation.comparison.paired import Paired
from jaxmed.evaluation.evaluate import evaluate
from jaxmed.evaluation.intervals.bootstrap import Bootstrap
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.thresholds import choose_thresholds, read_rule
from jaxmed.runs.layout import CONFIG, runs_of_arm
from jaxmed.runs.record import RunRecord, read_run
from jaxmed.runs.trained_model import TrainedModel, read_trained_model

# What members must have in common beside classes and preprocessing.
SHARED = ("task", "class_names", "preprocessing", "views")


def is_ensemble(folder: Path) -> bool:
    """Tell whether a folder is that of an arm, with runs in it, and not of a run."""
    return not (folder / CONFIG).is_file() and bool(runs_of_arm(folder))


def read_model(folder: Path) -> TrainedModel:
    """Read the model of a run, or all models of an arm as an ensemble.

    Args:
        folder: of a finished run, of `write_trained_model`, or of an arm.

    Raises:
        InputError: see `read_trained_model` and `read_ensemble`.
    """
    folder = Path(folder)
    return read_ensemble(folder) if is_ensemble(folder) else read_trained_model(folder)


def read_ensemble(folder: Path) -> TrainedModel:
    """Read all runs of an arm as one model.

    Args:
        folder: of the arm, such as runs/quickstart/frozen.

    Returns:
        A model with `members`. Its "metrics" are those of the averaged predictions,
        and have an "ensemble": see `ensemble_gain`.

    Raises:
        InputError: fewer than two runs, one that is not finished, or members with
            other classes, another task, or another preprocessing.
    """
    folders = runs_of_arm(folder)
    if len(folders) < 2:
        raise InputError(
            f"{folder} has one run, {folders[0].name}, and an ensemble needs two or "
            "more. Give the run's own folder."
        )
    members = [read_trained_model(path) for path in folders]
    for other in members[1:]:
        _check_alike(members[0], other)
    records = [read_run(path) for path in folders]
    first = members[0]
    metrics = {"tta": first.views} | evaluate_ensemble(records)
    metrics["ensemble"] = {
        "members": ["/".join(path.parts[len(folder.parts) :]) for path in folders],
        **ensemble_gain(records),
    }
    every = all(member.detector is not None for member in members)
    return replace(
        first,
        metrics=metrics,
        detector=first.detector if every else None,
        folder=folder,
        members=tuple(members),
    )


def evaluate_ensemble(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Evaluate the averaged predictions of runs, by the rules of the first."""
    metrics = records[0].metrics
    intervals, rule = metrics.get("intervals", {}), metrics["threshold"]
    options = {
        name: intervals[name] for name in ("resamples", "seed") & intervals.keys()
    }
    options |= read_rule(rule).used()
    return evaluate(
        *(
            pool([record.predictions[split] for record in records])
            for split in ("val", "test")
        ),
        threshold=rule["method"],
        calibration=metrics["calibration"]["method"],
        **options,
    )


def pool(parts: Sequence[Predictions]) -> Predictions:
    """Average the predictions of each image over those who predicted it.

    Args:
        parts: of the same split, classes and task, of the same or of other images.

    Raises:
        InputError: they do not agree about the label of an image.
    """
    first = parts[0]
    row_of = {
        n: i for i, n in enumerate(dict.fromkeys(n for p in parts for n in p.ids))
    }
    shape = (len(row_of), *first.labels.shape[1:])
    labels, counts = np.empty(shape, np.int64), np.zeros(len(row_of), np.int64)
    probs = np.zeros((len(row_of), first.probs.shape[1]))
    texts: dict[str, list[str]] = {name: [""] * len(row_of) for name in first.columns}
    groups = None if any(p.groups is None for p in parts) else [""] * len(row_of)
    for part in parts:
        rows = np.array([row_of[name] for name in part.ids])
        again = counts[rows] > 0
        if (labels[rows[again]] != part.labels[again]).any():
            raise InputError(
                f"The members do not agree about the labels of their {part.split} "
                "images, so they were not trained on the same data set."
            )
        labels[rows] = part.labels
        probs[rows] += part.probs
        counts[rows] += 1
        for i, row in enumerate(rows.tolist()):
            if groups is not None and part.groups is not None:
                groups[row] = part.groups[i]
            for name in texts:
                texts[name][row] = part.columns.get(name, ("",) * len(rows))[i]
    return Predictions(
        split=first.split,
        ids=tuple(row_of),
        labels=labels,
        probs=average(probs / counts[:, None]),
        class_names=first.class_names,
        task=first.task,
        groups=None if groups is None else tuple(groups),
        columns={name: tuple(column) for name, column in texts.items()},
    )


def average(means: np.ndarray) -> np.ndarray:
    """Round mean probabilities to float32, as those of a single model are."""
    return means.astype(np.float32).astype(np.float64)


def ensemble_gain(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Compute how much better an ensemble is than its members are on average.

    Args:
        records: of the members. Decisions of the ensemble are at thresholds chosen by
            the rule of the first on the averaged predictions of val.

    Returns:
        {"gain"}: by metric the paired difference on the test images, with its interval;
        or {"reason"} where members were tested on other images each, so that there is
        none which no member was trained on.
    """
    vals, tests = ([r.predictions[split] for r in records] for split in ("val", "test"))
    if any(set(test.ids) != set(tests[0].ids) for test in tests[1:]):
        return {
            "reason": "each member has test images of its own, which others were "
            "trained on: metrics are of single members on the images that they have "
            "not seen"
        }
    rule = read_rule(records[0].metrics["threshold"])
    chosen = choose_thresholds(pool(vals), rule)
    known = {name: value for name, value in chosen.items() if isinstance(value, float)}
    ours = apply_thresholds(pool(tests), known, "the ensemble")
    return {"gain": gain([ours], [record.scored for record in records])}


def gain(
    ensemble: Sequence[ScoredPredictions], members: Sequence[ScoredPredictions]
) -> dict[str, Any]:
    """Compute the paired differences of an ensemble from the mean of its members."""
    keys = overall_keys(ensemble[0].predictions)
    arms = {"ensemble": ensemble, "single": members}
    paired = Paired(arms, list(keys.values()), Bootstrap(resamples=1000))
    return {
        name: paired.difference("ensemble", "single", key) for name, key in keys.items()
    }


def _check_alike(first: TrainedModel, other: TrainedModel) -> None:
    for name in SHARED:
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours != theirs:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be one ensemble: they "
                f"differ in {name}, {ours} and {theirs}. Members need the same "
                "classes and the same preprocessing."
            )
