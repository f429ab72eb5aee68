"""How far subgroups are apart, and whether more than chance would have them."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from jaxmed.evaluation.comparison.alignment import Judged
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import (
    LEVEL,
    Key,
    Measure,
    Undefined,
    resample,
)
from jaxmed.evaluation.metrics.classification import Decisions
from jaxmed.evaluation.metrics.ranking import Ranking
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.subgroups import column_texts

KEYS: dict[str, Key] = {name: (name,) for name in ("auroc", "auprc", "accuracy", "f1")}
"""The metrics compared, but that binary tasks have sensitivity and specificity."""


def subgroup_gaps(
    judged: Judged,
    groups: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Finds the largest gap between two of several groups, in every metric.

    All images are drawn together, and each group is measured on those of its own, so
    that patients with images in several groups are drawn as wholes. With k groups there
    are k (k - 1) / 2 gaps; intervals and p are Bonferroni's for so many, by the
    normal distribution with the resamples' variance.

    Args:
        judged: the test predictions, and what was decided.
        groups: by name, the rows of each group, int (m,); at least two.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        By metric {"value", "ci_low", "ci_high", "high", "low", "p", "groups"}: the
        largest gap with its 95 % interval, which holds for all gaps at once; the names
        of its two groups; p of whether any two of the groups differ; and how many
        groups have a value. A metric that fewer than two groups have is left out.
    """
    predictions = judged.predictions
    keys = dict(KEYS)
    if predictions.task == "binary":
        positive = predictions.class_names[1]
        keys = {name: keys[name] for name in ("auroc", "auprc")}
        keys["sensitivity"] = ("per_class", positive, "recall")
        keys["specificity"] = ("per_class", positive, "specificity")
    measures = [
        _OfGroup(name, judged, rows, kind, set(keys.values()))
        for name, rows in groups.items()
        for kind in ("ranking", "decisions")
    ]
    values = {k: v for one in measures for k, v in one.values().items()}
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    samples = resample(measures, units_of(predictions), bootstrap, "Gaps of subgroups")
    found = {}
    for metric, key in keys.items():
        known = {
            name: (value, samples[name, *key])
            for name in groups
            if isinstance(value := values.get((name, *key)), float)
        }
        if len(known) > 1:
            found[metric] = _largest(known)
    return found


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
    """The difference of two groups' values, and its standard error."""
    differences = high[1] - low[1]
    defined = differences[~np.isnan(differences)]
    error = float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
    return high[0] - low[0], error


class _OfGroup(Measure):
    """The wanted metrics of some of the images, the group's name before their keys."""

    def __init__(
        self, name: str, judged: Judged, rows: np.ndarray, kind: str, wanted: set[Key]
    ):
        part = judged.predictions.take(rows)
        self.images = len(judged.predictions.ids)
        self._name, self._rows, self._wanted = name, rows, wanted
        if kind == "ranking":
            self._measure: Measure = Ranking(part)
        else:
            self._measure = Decisions(part, judged.decided[rows])

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        samples = self._measure.resampled(counts[self._rows]).items()
        return {(self._name, *k): s for k, s in samples if k in self._wanted}

    def reason(self, key: Key) -> Undefined:
        return self._measure.reason(key[1:])


def rows_by_value(predictions: Predictions, column: str) -> dict[str, np.ndarray]:
    """Finds the rows of each value of a column, as `evaluate_subgroups` names it."""
    texts = np.array(column_texts(predictions, column), dtype=object)
    return {name: np.flatnonzero(texts == name) for name in sorted(set(texts))}
