"""Alignment of several models' predictions on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.metrics.classification import default_decisions
from jaxmed.evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredPredictions:
    """Predictions, and what was decided from them.

    Attributes:
        predictions: of n images.
        decisions: int64, of the shape of the labels: a class, or 0 and 1 per label.
        name: what errors call it.
        calibrated: float64 (n, k), calibrated probabilities; None where there are none.
    """

    predictions: Predictions
    decisions: np.ndarray
    name: str = ""
    calibrated: np.ndarray | None = None


def apply_thresholds(
    predictions: Predictions,
    thresholds: Mapping[str, float | None] | None = None,
    name: str = "",
    calibrated: np.ndarray | None = None,
) -> ScoredPredictions:
    """Decide at thresholds in binary and multilabel tasks, else by highest probability.

    Args:
        predictions: of n images.
        thresholds: by class name, of the positive class in binary tasks; None, and a
            class without one, for what `default_decisions` does.
        name: what errors call it.
        calibrated: see `ScoredPredictions`.
    """
    decisions = default_decisions(predictions)
    if predictions.task in ("binary", "multilabel"):
        for i, of in enumerate(predictions.class_names):
            threshold = (thresholds or {}).get(of)
            if threshold is None:
                continue
            positive = (predictions.probs[:, i] >= threshold).astype(np.int64)
            if predictions.task == "multilabel":
                decisions[:, i] = positive
            else:
                decisions = positive if i == 1 else 1 - positive
    return ScoredPredictions(
        predictions=predictions, decisions=decisions, name=name, calibrated=calibrated
    )


def align(runs: Sequence[ScoredPredictions]) -> list[ScoredPredictions]:
    """Reorder the images and classes of all runs as in the first one.

    All get the same groups: those of the first that has any.

    Raises:
        InputError: they differ in split, task, classes, images, labels or groups.
    """
    first = runs[0]
    aligned = [first, *(_aligned(first, other) for other in runs[1:])]
    with_groups = [run for run in aligned if run.predictions.groups is not None]
    if not with_groups:
        return aligned
    for other in with_groups[1:]:
        _check_groups(with_groups[0], other)
    groups = with_groups[0].predictions.groups
    return [
        replace(run, predictions=replace(run.predictions, groups=groups))
        for run in aligned
    ]


def _aligned(first: ScoredPredictions, other: ScoredPredictions) -> ScoredPredictions:
    ours, theirs = first.predictions, other.predictions
    for field in ("split", "task"):
        if (a := getattr(ours, field)) != (b := getattr(theirs, field)):
            raise _refusal(first, other, f"they differ in {field}, {a} and {b}")
    _check_classes(first, other)
    _check_images(first, other)
    row_of = {name: i for i, name in enumerate(theirs.ids)}
    rows = np.array([row_of[name] for name in ours.ids])
    columns = np.array([theirs.class_names.index(name) for name in ours.class_names])
    labels, decisions = theirs.labels[rows], other.decisions[rows]
    if ours.task == "multilabel":
        labels, decisions = labels[:, columns], decisions[:, columns]
    else:
        # Where each of their classes is among ours.
        class_of = np.argsort(columns)
        labels, decisions = class_of[labels], class_of[decisions]
    if (wrong := ours.labels != labels).any():
        rows_wrong = np.unique(np.argwhere(wrong)[:, 0])
        raise _refusal(
            first,
            other,
            f"the labels of the image {ours.ids[rows_wrong[0]]!r} differ, and of "
            f"{len(rows_wrong)} of {len(ours.ids)} images in all",
        )
    groups = theirs.groups
    moved = replace(
        ours,
        probs=theirs.probs[rows][:, columns],
        groups=None if groups is None else tuple(groups[i] for i in rows),
        columns={},
    )
    calibrated = other.calibrated
    if calibrated is not None:
        calibrated = calibrated[rows][:, columns]
    return replace(other, predictions=moved, decisions=decisions, calibrated=calibrated)


def _check_classes(first: ScoredPredictions, other: ScoredPredictions) -> None:
    ours, theirs = first.predictions.class_names, other.predictions.class_names
    if set(ours) == set(theirs):
        return
    lacking = [f"only {first.name or 'the first'} has {n!r}" for n in ours]
    lacking = [t for t, n in zip(lacking, ours, strict=True) if n not in theirs]
    extra = [f"only {other.name or 'the other'} has {n!r}" for n in theirs]
    extra = [t for t, n in zip(extra, theirs, strict=True) if n not in ours]
    difference = "; ".join([*lacking[:1], *extra[:1]])
    raise _refusal(first, other, f"they differ in class_names, {difference}")


def _check_images(first: ScoredPredictions, other: ScoredPredictions) -> None:
    ours, theirs = set(first.predictions.ids), set(other.predictions.ids)
    if differing := ours ^ theirs:
        example = min(differing)
        owner = first if example in ours else other
        of = f", which only {owner.name} has" if owner.name else ""
        raise _refusal(
            first,
            other,
            f"they are of different images. {len(differing)} ids are in one only, such "
            f"as {example!r}{of} ({len(ours)} images and {len(theirs)})",
        )


def _check_groups(first: ScoredPredictions, other: ScoredPredictions) -> None:
    ours, theirs = first.predictions, other.predictions
    groups = ours.groups or (), theirs.groups or ()
    for name, a, b in zip(ours.ids, *groups, strict=True):
        if a != b:
            raise _refusal(
                first, other, f"the group of the image {name!r} is {a!r} and {b!r}"
            )


def _refusal(
    first: ScoredPredictions, other: ScoredPredictions, why: str
) -> InputError:
    subject = f"{first.name} and {other.name}" if first.name else "These predictions"
    return InputError(f"{subject} cannot be compared: {why}.")
