"""Intervals hold what they promise."""

import numpy as np

from jaxmed.evaluation.intervals import Undefined, as_estimate, estimate
from jaxmed.evaluation.metrics import Decisions
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.resampling import Bootstrap, Units


def test_interval_is_numpys_percentiles():
    samples = np.random.default_rng(0).normal(size=999)
    result = as_estimate(0.5, np.append(samples, np.nan))
    low, high = np.percentile(samples, [2.5, 97.5])
    assert result == {"value": 0.5, "ci_low": low, "ci_high": high}


def test_undefined_values_and_intervals():
    none = {"value": None, "ci_low": None, "ci_high": None}
    nan = np.full(3, np.nan)
    assert as_estimate(Undefined("why"), nan) == none | {"reason": "why"}
    interval = {"ci_low": None, "ci_high": None}
    expected = {"value": 1.0, "reason": "in no resample"} | interval
    assert as_estimate(1.0, nan) == expected


def test_intervals_of_accuracy_cover_the_truth():
    """Draws 500 test sets of 200 images from a model that is right with 0.85.

    The 95 % percentile interval of a binomial proportion of this size covers in
    about 94 % of the cases; 500 cases have a standard error of 1 %.
    """
    random = np.random.default_rng(11)
    labels = np.arange(200) % 2
    covered = 0
    for case in range(500):
        right = random.random(200) < 0.85
        chosen = np.where(right, labels, 1 - labels)
        predictions = Predictions(
            split="test",
            ids=tuple(map(str, range(200))),
            labels=labels,
            probs=np.eye(2)[chosen],
            class_names=("a", "b"),
            task="binary",
        )
        bootstrap = Bootstrap(resamples=400, seed=case)
        result = estimate([Decisions(predictions)], Units(labels), bootstrap)[
            ("accuracy",)
        ]
        covered += result["ci_low"] <= 0.85 <= result["ci_high"]
    assert 0.91 <= covered / 500 <= 0.97
