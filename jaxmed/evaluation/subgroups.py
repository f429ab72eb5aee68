"""Metrics of subgroups, such as sites or sexes, and the gaps between them."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.comparison.alignment import ScoredPredictions, apply_thresholds
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import (
    LEVEL,
    Key,
    Measure,
    Undefined,
    nested,
    resample,
)
from jaxmed.evaluation.intervals.significance import holm
from jaxmed.evaluation.metrics.classification import Decisions
from jaxmed.evaluation.metrics.counts import ratio
from jaxmed.evaluation.metrics.operating_points import ThresholdDecisions
from jaxmed.evaluation.metrics.probability_scores import NO_LABEL
from jaxmed.evaluation.metrics.ranking import Ranking
from jaxmed.evaluation.metrics.registry import estimate_split, overall
from jaxmed.evaluation.predictions import Predictions

GROUP = "group"
NOT_KNOWN = "not known"
# Below this many images, or patients, a number says little.
SMALL = 30
# A column of more values than this is rather a measurement than a property.
VALUES = 30


def evaluate_subgroups(
    predictions: Predictions,
    column: str,
    *,
    thresholds: Mapping[str, float | Undefined],
    calibrated: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Evaluate the images of every value of a column on their own.

    Args:
        predictions: of the test split.
        column: one of its columns, or "group" for its groups.
        thresholds: those chosen on val, see `choose_thresholds`.
        calibrated: (n, k), probabilities to measure the gap in calibration of; by
            default those of the predictions.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        prevalence: see `ThresholdDecisions`.

    Returns:
        {"values": {...}, "gaps": {...}}: by value, in alphabetical order, the metrics
        of a split with "n", "groups" (patients, where they have several images),
        "at_threshold", and "small", which says why the numbers mean little, None if
        they do not; and of those that are not small `subgroup_gaps`, with "p_holm",
        adjusted for the number of metrics. No values and a "reason" where there are
        more than 30.

    Raises:
        InputError: there is no such column.
    """
    texts = column_texts(predictions, column)
    names = sorted(set(texts))
    if len(names) > VALUES:
        reason = f"{len(names)} different values; put them into at most {VALUES} bands"
        return {"values": {}, "gaps": {}, "reason": reason}
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    tables = {}
    for name in names:
        rows = np.flatnonzero(np.array([text == name for text in texts]))
        part = predictions.take(rows)
        decisions = ThresholdDecisions(part, dict(thresholds), prevalence)
        estimates = estimate_split(
            part, [decisions], bootstrap, description=f"Intervals on {column} {name}"
        )
        tables[name] = overall(part, estimates) | {
            "at_threshold": nested(estimates)["at_threshold"],
            "small": _why_small(part),
        }
    rows = rows_by_subgroup(predictions, column)
    large = {name: rows[name] for name in names if not tables[name]["small"]}
    gaps = {}
    if len(large) > 1:
        decided = {k: t for k, t in thresholds.items() if isinstance(t, float)}
        scored = apply_thresholds(predictions, decided, calibrated=calibrated)
        gaps = subgroup_gaps(scored, large, resamples=resamples, seed=seed)
        adjusted = holm([gap["p"] for gap in gaps.values()])
        for gap, p in zip(gaps.values(), adjusted, strict=True):
            gap["p_holm"] = p
    return {"values": tables, "gaps": gaps}


def column_texts(predictions: Predictions, column: str) -> tuple[str, ...]:
    """Return each image's value of a column, `NOT_KNOWN` where it has none."""
    if column in predictions.columns:
        texts = predictions.columns[column]
    elif column == GROUP and predictions.groups is not None:
        texts = predictions.groups
    elif predictions.columns:
        raise unknown("column", column, predictions.columns)
    else:
        raise InputError(
            f"The {predictions.split} predictions have no column {column!r}: they have "
            "none at all. Name the columns to keep where the images are loaded."
        )
    return tuple(text or NOT_KNOWN for text in texts)


def _why_small(part: Predictions) -> str | None:
    units = units_of(part)
    if units.size < SMALL:
        return f"fewer than {SMALL} {units.noun}"
    truth = part.truth[part.known] if part.task == "multilabel" else part.labels
    if len(np.unique(truth)) < 2:
        return "one class only"
    return None


CALIBRATION = "calibration_gap"
KEYS: dict[str, Key] = {
    name: (name,) for name in ("auroc", "auprc", "accuracy", "f1", CALIBRATION)
}
"""The metrics compared, but that binary tasks have sensitivity and specificity."""


def subgroup_gaps(
    scored: ScoredPredictions,
    groups: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Compute the largest gap between two of several groups, in every metric.

    All images are drawn together, and each group is measured on those of its own, so
    that patients with images in several groups are drawn as wholes. With k groups there
    are k (k - 1) / 2 gaps; intervals and p are Bonferroni's for so many, by the
    normal distribution with the resamples' variance.

    Args:
        scored: the test predictions, and what was decided.
        groups: by name, the rows of each group, int (m,); at least two.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        By metric {"value", "ci_low", "ci_high", "high", "low", "p", "groups"}: the
        largest gap with its 95 % interval, which holds for all gaps at once; the names
        of its two groups; p of whether any two of the groups differ; and how many
        groups have a value. A metric that fewer than two groups have is left out.
        "calibration_gap" compares by how much probabilities are too high on average,
        see `_CalibrationGap`.
    """
    predictions = scored.predictions
    keys = dict(KEYS)
    if predictions.task == "binary":
        positive = predictions.class_names[1]
        keys = {name: keys[name] for name in ("auroc", "auprc")}
        keys["sensitivity"] = ("per_class", positive, "recall")
        keys["specificity"] = ("per_class", positive, "specificity")
        keys[CALIBRATION] = KEYS[CALIBRATION]
    measures = [
        _OfGroup(name, scored, rows, measure_name, set(keys.values()))
        for name, rows in groups.items()
        for measure_name in ("ranking", "decisions", "calibration")
    ]
    values = {k: v for measure in measures for k, v in measure.values().items()}
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    samples = resample(measures, units_of(predictions), bootstrap, "Gaps of subgroups")
    gaps = {}
    for metric, key in keys.items():
        known = {
            name: (value, samples[name, *key])
            for name in groups
            if isinstance(value := values.get((name, *key)), float)
        }
        if len(known) > 1:
            gaps[metric] = _largest(known)
    return gaps


def _largest(known: Mapping[str, tuple[float, np.ndarray]]) -> dict[str, Any]:
    names = sorted(known, key=lambda name: -known[name][0])
    pairs = list(combinations(names, 2))
    p = 1.0
    for high, low in pairs:
        gap, error = _gap(known[high], known[low])
        if error > 0:
            p = min(p, len(pairs) * 2 * float(ndtr(-gap / error)))
    gap, error = _gap(known[names[0]], known[names[-1]])
    half = -float(ndtri((1 - LEVEL) / 2 / len(pairs))) * error
    ends = {"ci_low": max(gap - half, -1.0), "ci_high": min(gap + half, 1.0)}
    if not error > 0:
        ends = {"ci_low": None, "ci_high": None}
    return {"value": gap, **ends, "p": p} | {
        "high": names[0],
        "low": names[-1],
        "groups": len(names),
    }


def _gap(
    high: tuple[float, np.ndarray], low: tuple[float, np.ndarray]
) -> tuple[float, float]:
    """Compute the difference of two groups' values, and its standard error."""
    differences = high[1] - low[1]
    defined = differences[~np.isnan(differences)]
    error = float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
    return high[0] - low[0], error


class _OfGroup(Measure):
    """The wanted metrics of some of the images, the group's name before their keys."""

    def __init__(
        self,
        name: str,
        scored: ScoredPredictions,
        rows: np.ndarray,
        measure_name: str,
        wanted: set[Key],
    ):
        part = scored.predictions.take(rows)
        self.images = len(scored.predictions.ids)
        self._name, self._rows, self._wanted = name, rows, wanted
        if measure_name == "ranking":
            self._measure: Measure = Ranking(part)
        elif measure_name == "calibration":
            calibrated = scored.calibrated
            probs = part.probs if calibrated is None else calibrated[rows]
            self._measure = _CalibrationGap(part, probs)
        else:
            self._measure = Decisions(part, scored.decisions[rows])

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        samples = self._measure.resampled(counts[self._rows]).items()
        return {(self._name, *k): s for k, s in samples if k in self._wanted}

    def reason(self, key: Key) -> Undefined:
        return self._measure.reason(key[1:])


class _CalibrationGap(Measure):
    """By how much probabilities are too high on average: mean(p) - mean(y).

    In binary tasks those of the positive class; in multilabel tasks those of all known
    labels; else those of the most probable class, which is right or not.
    """

    def __init__(self, predictions: Predictions, probs: np.ndarray):
        self.images = len(predictions.ids)
        truth, known = predictions.truth, predictions.known
        if predictions.task == "binary":
            probs, truth, known = probs[:, 1:], truth[:, 1:], known[:, 1:]
        elif predictions.task != "multilabel":
            at = np.arange(self.images), probs.argmax(axis=1)
            probs, truth, known = (part[at][:, None] for part in (probs, truth, known))
        self._excess = ((probs - truth) * known).sum(axis=1)
        self._pairs = known.sum(axis=1).astype(np.float64)

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        # Not a matrix product, whose threads would fight with those of a training.
        sums = np.einsum("n,nr->r", self._excess, counts)
        return {(CALIBRATION,): ratio(sums, np.einsum("n,nr->r", self._pairs, counts))}

    def reason(self, key: Key) -> Undefined:
        return NO_LABEL


def rows_by_subgroup(predictions: Predictions, column: str) -> dict[str, np.ndarray]:
    """Return the rows of each value of a column, as `evaluate_subgroups` names it."""
    texts = np.array(column_texts(predictions, column), dtype=object)
    return {name: np.flatnonzero(texts == name) for name in sorted(set(texts))}
