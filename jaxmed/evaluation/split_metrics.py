"""The metrics of one split, with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def estimate_split(
    predictions: Predictions,
    extra: Sequence[Measure],
    bootstrap: Bootstrap,
    *,
    description: str = "Intervals",
) -> dict[Key, Estimate]:
    """Estimates the metrics of a split, and those of extra measures."""
    measures = [Ranking(predictions), Decisions(predictions), Losses(predictions)]
    measures += extra
    units = units_of(predictions)
    if len(predictions.class_names) <= MANY:
        return estimate(measures, units, bootstrap, description=description)
    # The samples of every class alone would fill gigabytes.
    few = [Decisions(predictions, per_class=False), Losses(predictions)]
    found = estimate(few, units, bootstrap, description=description)
    return value_only(measures, NO_INTERVAL) | found


def overall(
    predictions: Predictions, estimates: Mapping[Key, Estimate]
) -> dict[str, Any]:
    """Picks what is about the whole split, with the number of images and groups."""
    counted = {"n": len(predictions.ids)}
    cluster = units_of(predictions).cluster
    if cluster is not None:
        counted["groups"] = int(cluster.max()) + 1
    return counted | {key[0]: one for key, one in estimates.items() if len(key) == 1}
