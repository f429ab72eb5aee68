"""Arms of an experiment: one arm over its seeds, and the gap between two."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals import (
    Estimate,
    Key,
    Measure,
    Undefined,
    as_estimate,
)
from jaxmed.evaluation.losses import Losses
from jaxmed.evaluation.metrics import Decisions
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.ranking import Ranking
from jaxmed.evaluation.resampling import Bootstrap, units_of

MEASURES = {
    "accuracy": Decisions,
    "balanced_accuracy": Decisions,
    "f1": Decisions,
    "mcc": Decisions,
    "kappa": Decisions,
    "quadratic_kappa": Decisions,
    "auroc": Ranking,
    "auprc": Ranking,
    "log_loss": Losses,
    "brier": Losses,
}


def paired_difference(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    metric: str = "auroc",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Computes how much better arm `a` is than arm `b`, with a 95 % interval.

    The metric is averaged over an arm's seeds. The bootstrap is paired: in every
    resample both arms, and all their seeds, are measured on the same drawn images. The
    interval is about the images; how much training differs from seed to seed is in
    `arm_summary`.

    Args:
        a: the predictions of one arm, one per seed.
        b: those of the other; the number of seeds may differ. All are of the same
            images, in any order.
        metric: one of `MEASURES`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"value", "ci_low", "ci_high"} of metric(a) - metric(b), or None for all three
        and a "reason".

    Raises:
        InputError: an unknown metric, an arm without predictions, or predictions of
            different images, labels, classes or tasks.
    """
    both = _aligned([*_nonempty(a), *_nonempty(b)])
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    values, samples = _measure(both, metric, bootstrap)
    if isinstance(values, Undefined):
        return as_estimate(values, samples)
    seeds = len(a)
    return as_estimate(
        values[:seeds].mean() - values[seeds:].mean(),
        samples[:seeds].mean(axis=0) - samples[seeds:].mean(axis=0),
    )


def arm_summary(
    seeds: Sequence[Predictions],
    metric: str = "auroc",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes an arm's mean over seeds, its interval and its spread.

    Args:
        seeds: the arm's predictions on the same images, one per seed.
        metric: one of `MEASURES`.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        {"value", "ci_low", "ci_high"} of the mean over seeds, and over the seeds
        "min", "max" and "std", the sample standard deviation (None if there is one
        seed), with "seeds", their number. None and a "reason" where undefined.

    Raises:
        InputError: as in `paired_difference`.
    """
    arm = _aligned(_nonempty(seeds))
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    values, samples = _measure(arm, metric, bootstrap)
    spread: dict[str, Any] = {"std": None, "min": None, "max": None, "seeds": len(arm)}
    if isinstance(values, Undefined):
        return as_estimate(values, samples) | spread
    if len(arm) > 1:
        spread["std"] = float(values.std(ddof=1))
    spread |= {"min": float(values.min()), "max": float(values.max())}
    return as_estimate(values.mean(), samples.mean(axis=0)) | spread


def _measure(
    runs: Sequence[Predictions], metric: str, bootstrap: Bootstrap
) -> tuple[np.ndarray | Undefined, np.ndarray]:
    """Returns values (runs,) and samples (runs, resamples)."""
    if metric not in MEASURES:
        raise unknown("metric", metric, MEASURES)
    key: Key = (metric,)
    measures: list[Measure] = [MEASURES[metric](run) for run in runs]
    values = []
    for measure in measures:
        value = measure.values().get(key)
        if value is None:
            raise InputError(f"A {runs[0].task} task has no {metric}.")
        if isinstance(value, Undefined):
            return value, np.empty((len(runs), 0))
        values.append(value)
    chunks = [
        np.stack([measure.resampled(counts)[key] for measure in measures])
        for counts in bootstrap.counts(units_of(runs[0]))
    ]
    return np.array(values), np.concatenate(chunks, axis=1)


def _nonempty(arm: Sequence[Predictions]) -> Sequence[Predictions]:
    if not arm:
        raise InputError("An arm has no predictions; a comparison needs one per seed.")
    return arm


def _aligned(runs: Sequence[Predictions]) -> list[Predictions]:
    """Brings all runs into the first one's order of images."""
    return [runs[0], *_align(runs[0], runs[1:])]


def _align(first: Predictions, others: Sequence[Predictions]) -> Iterator[Predictions]:
    for other in others:
        for what in ("split", "task", "class_names"):
            if (a := getattr(first, what)) != (b := getattr(other, what)):
                raise InputError(
                    f"These predictions cannot be compared: they differ in {what}, {a} "
                    f"and {b}."
                )
        if differing := set(first.ids) ^ set(other.ids):
            raise InputError(
                "These predictions cannot be compared: they are of different images. "
                f"{len(differing)} ids are in one only, such as {min(differing)!r}."
            )
        places = {name: i for i, name in enumerate(other.ids)}
        order = np.array([places[name] for name in first.ids])
        if (wrong := first.labels != other.labels[order]).any():
            name = first.ids[int(np.argwhere(wrong)[0, 0])]
            raise InputError(
                "These predictions cannot be compared: the labels of the image "
                f"{name!r} differ."
            )
        yield replace(first, probs=other.probs[order])
