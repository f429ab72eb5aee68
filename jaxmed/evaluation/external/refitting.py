"""Refitting of threshold and calibration on k labeled images of an external set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmed.evaluation.calibration import Scaling, fit_scaling
from jaxmed.evaluation.intervals.bootstrap import Units, units_of
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.metrics.operating_points import ThresholdDecisions
from jaxmed.evaluation.metrics.probability_scores import Losses
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.thresholds import ThresholdRule, choose_thresholds

SIZES = (20, 50, 100, 200, 500, 1000, 2000)
DRAWS = 100
QUANTILES = (0.025, 0.975)
METRICS = ("sensitivity", "specificity", "youden_j", "log_loss", "brier")
Thresholds = Mapping[str, float | Undefined]


def refitting_curve(
    predictions: Predictions,
    *,
    rule: ThresholdRule,
    calibration: str,
    thresholds: Thresholds,
    scaling: Scaling | Undefined,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what k labeled images of an external set would change.

    k images are drawn at random, whole patients where these are known; threshold and
    calibration are fitted on them as on val, and measured on all others. Where k
    images hold one class only, those of the run stay.

    Args:
        predictions: of the external set.
        rule, calibration: how both are fitted.
        thresholds, scaling: those of the run.
        sizes: numbers k; those above half of the images are left out.
        draws: of each k.
        seed: of the draws.

    Returns:
        {"draws", "unchanged", "sizes"}: under "unchanged" each metric by name, with the
        run's threshold and calibration on all images; "sizes" is a list of {"k",
        "not_refitted", "metrics"}, the share of draws with one class only, and by
        metric the "mean" over draws with its 2.5th and 97.5th percentile, "low" and
        "high".
    """
    units, rng = units_of(predictions), np.random.default_rng(seed)
    points = []
    for k in sizes:
        if k > len(predictions.ids) // 2:
            break
        values, failed = [], 0
        for drawn in _draws(units, len(predictions.ids), k, draws, rng):
            fitted_on, rest = predictions.take(drawn[0]), predictions.take(drawn[1])
            chosen = choose_thresholds(fitted_on, rule)
            scaled = fit_scaling(fitted_on, calibration)
            failed += isinstance(scaled, Undefined)
            chosen = {
                name: thresholds[name]
                if isinstance(threshold, Undefined)
                else threshold
                for name, threshold in chosen.items()
            }
            if isinstance(scaled, Undefined):
                scaled = scaling
            values.append(_measure(rest, chosen, scaled))
        points.append({"k": k, "not_refitted": failed / draws} | _summarize(values))
    unchanged = _measure(predictions, thresholds, scaling)
    return {"draws": draws, "unchanged": unchanged, "sizes": points}


def _draws(
    units: Units, n: int, k: int, draws: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of about k images, of whole units, and those of all others."""
    cluster = np.arange(n) if units.cluster is None else units.cluster
    sizes = np.bincount(cluster)
    for _ in range(draws):
        order = rng.permutation(len(sizes))
        taken = order[: 1 + np.searchsorted(np.cumsum(sizes[order]), k)]
        inside = np.isin(cluster, taken)
        yield np.flatnonzero(inside), np.flatnonzero(~inside)


def _summarize(values: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    metrics = {}
    for name in dict.fromkeys(name for draw in values for name in draw):
        each = [draw[name] for draw in values if name in draw]
        low, high = np.quantile(each, QUANTILES).tolist()
        metrics[name] = {"mean": float(np.mean(each)), "low": low, "high": high}
    return {"metrics": metrics}


def _measure(
    predictions: Predictions, thresholds: Thresholds, scaling: Scaling | Undefined
) -> dict[str, float]:
    """Compute the losses, and means over classes of what thresholds decide."""
    probs = None if isinstance(scaling, Undefined) else scaling.apply(predictions)
    values = Losses(predictions, probs).values()
    if predictions.task in ("binary", "multilabel"):
        values |= ThresholdDecisions(predictions, dict(thresholds)).values()
    by_name: dict[str, list[float]] = {}
    for (*_, name), value in values.items():
        if name in METRICS and not isinstance(value, Undefined):
            by_name.setdefault(name, []).append(value)
    return {name: float(np.mean(of)) for name, of in by_name.items()}
