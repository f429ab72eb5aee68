"""The same table for every site, sex, scanner: is the model as good for all?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import Undefined, nested
from jaxmed.evaluation.metrics.at_threshold import ThresholdDecisions
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.split_metrics import estimate_split, overall

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
    resamples: int = 2000,
    seed: int = 0,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Evaluates the images of every value of a column on their own.

    Args:
        predictions: of the test split.
        column: one of its columns, or "group" for its groups.
        thresholds: those chosen on val, see `choose_thresholds`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        prevalence: see `ThresholdDecisions`.

    Returns:
        {"values": {...}}: by value, in alphabetical order, the metrics of a split with
        "n", "at_threshold", and "small", which says why the numbers mean little, None
        if they do not. No values and a "reason" where there are more than 30.

    Raises:
        InputError: there is no such column.
    """
    texts = column_texts(predictions, column)
    names = sorted(set(texts))
    if len(names) > VALUES:
        reason = f"{len(names)} different values; put them into at most {VALUES} bands"
        return {"values": {}, "reason": reason}
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    tables = {}
    for name in names:
        rows = np.flatnonzero(np.array([text == name for text in texts]))
        part = predictions.take(rows)
        decisions = ThresholdDecisions(part, dict(thresholds), prevalence)
        found = estimate_split(
            part, [decisions], bootstrap, description=f"Intervals on {column} {name}"
        )
        tables[name] = overall(part, found) | {
            "at_threshold": nested(found)["at_threshold"],
            "small": _why_small(part),
        }
    return {"values": tables}


def column_texts(predictions: Predictions, column: str) -> tuple[str, ...]:
    """Returns each image's value of a column, `NOT_KNOWN` where it has none."""
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
