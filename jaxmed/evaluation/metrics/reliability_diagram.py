"""Reliability diagrams: what happens as often as predicted, bin by bin."""

from typing import Any

import numpy as np

from jaxmed.errors import unknown
from jaxmed.evaluation.intervals.proportions import wilson
from jaxmed.evaluation.metrics.calibration_error import (
    equal_mass_bins,
    equal_width_bins,
)
from jaxmed.evaluation.predictions import Predictions

BINNINGS = {"equal_width": equal_width_bins, "equal_mass": equal_mass_bins}


def reliability(
    predictions: Predictions, probs: np.ndarray | None = None, bins: str = "equal_width"
) -> list[dict[str, Any]]:
    """Compares predicted probabilities with observed frequencies in 15 bins.

    In binary tasks the probability is that of the positive class; in multilabel tasks
    that of each known label, all in one diagram; otherwise that of the most probable
    class, and observed is how often it is right.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        bins: "equal_width" or "equal_mass".

    Returns:
        By rising probability, for each bin that is not empty: "n", how many
        probabilities are in it; "predicted", their mean; "observed", a share as
        {"value", "ci_low", "ci_high"} with Wilson's 95 % interval.

    Raises:
        InputError: unknown bins.
    """
    if bins not in BINNINGS:
        raise unknown("bins", bins, BINNINGS)
    probs = predictions.probs if probs is None else probs
    if predictions.task == "binary":
        predicted, right = probs[:, 1], predictions.truth[:, 1]
    elif predictions.task == "multilabel":
        predicted = probs[predictions.known]
        right = predictions.truth[predictions.known]
    else:
        predicted = probs.max(axis=1)
        right = probs.argmax(axis=1) == predictions.labels
    if not len(predicted):
        return []
    places = BINNINGS[bins](predicted)
    n = np.bincount(places)
    sums = np.bincount(places, predicted)
    hits = np.bincount(places, right).round()
    low, high = wilson(hits, n)
    return [
        {
            "n": int(n[i]),
            "predicted": float(sums[i] / n[i]),
            "observed": {
                "value": float(hits[i] / n[i]),
                "ci_low": float(low[i]),
                "ci_high": float(high[i]),
            },
        }
        for i in np.flatnonzero(n)
    ]
