"""Registry of the metrics of a split, and their estimation with intervals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import (
    Estimate,
    Key,
    Measure,
    estimate,
    value_only,
)
from jaxmed.evaluation.metrics.classification import MANY, Decisions
from jaxmed.evaluation.metrics.probability_scores import Losses
from jaxmed.evaluation.metrics.ranking import Ranking
from jaxmed.evaluation.predictions import Predictions

NO_INTERVAL = f"no interval with more than {MANY} classes"


class Metric(NamedTuple):
    """One number about a whole split.

    Attributes:
        measure: computes it, under the key (name,), from `Predictions`.
        title: its name in tables and sentences.
        limits: its lowest and its highest possible value.
        lower_is_better: whether a lower value means a better model.
    """

    measure: Callable[..., Measure]
    title: str
    limits: tuple[float, float] = (0.0, 1.0)
    lower_is_better: bool = False


# What `evaluate`, `compare_arms` and the report compute and show, in this order.
METRICS = {
    "auroc": Metric(Ranking, "AUROC"),
    "auprc": Metric(Ranking, "AUPRC"),
    "accuracy": Metric(Decisions, "accuracy"),
    "balanced_accuracy": Metric(Decisions, "balanced accuracy"),
    "f1": Metric(Decisions, "F1"),
    "mcc": Metric(Decisions, "MCC", (-1.0, 1.0)),
    "kappa": Metric(Decisions, "Cohen's kappa", (-1.0, 1.0)),
    "quadratic_kappa": Metric(Decisions, "quadratic kappa", (-1.0, 1.0)),
    "log_loss": Metric(Losses, "log loss", (0.0, np.inf), lower_is_better=True),
    "brier": Metric(Losses, "Brier score", lower_is_better=True),
}


def metric_names(predictions: Predictions) -> list[str]:
    """List the metrics with intervals that a task has.

    Quadratic kappa needs ordered classes. With more than `MANY` classes, areas under
    curves have no intervals.
    """
    names = [name for name in METRICS if name != "quadratic_kappa"]
    if predictions.task == "ordinal":
        names = list(METRICS)
    if len(predictions.class_names) > MANY:
        names = [name for name in names if METRICS[name].measure is not Ranking]
    return names


def is_of_decisions(name: str) -> bool:
    """Return whether a metric depends on decisions, and so on a threshold."""
    return name in METRICS and METRICS[name].measure is Decisions


def limits_of(name: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have."""
    return METRICS[name].limits if name in METRICS else (0.0, 1.0)


def estimate_split(
    predictions: Predictions,
    extra: Sequence[Measure],
    bootstrap: Bootstrap,
    *,
    description: str = "Intervals",
) -> dict[Key, Estimate]:
    """Estimate all registered metrics of a split, and those of extra measures."""
    measure_classes = list(dict.fromkeys(metric.measure for metric in METRICS.values()))
    measures = [*(cls(predictions) for cls in measure_classes), *extra]
    units = units_of(predictions)
    if len(predictions.class_names) <= MANY:
        return estimate(measures, units, bootstrap, description=description)
    # The samples of every single class would fill gigabytes.
    few = [
        cls(predictions, per_class=False) if cls is Decisions else cls(predictions)
        for cls in measure_classes
        if cls is not Ranking
    ]
    estimates = estimate(few, units, bootstrap, description=description)
    return value_only(measures, NO_INTERVAL) | estimates


def overall(
    predictions: Predictions, estimates: Mapping[Key, Estimate]
) -> dict[str, Any]:
    """Select the metrics of the whole split, with the number of images and groups."""
    sizes = {"n": len(predictions.ids)}
    cluster = units_of(predictions).cluster
    if cluster is not None:
        sizes["groups"] = int(cluster.max()) + 1
    return sizes | {key[0]: entry for key, entry in estimates.items() if len(key) == 1}
