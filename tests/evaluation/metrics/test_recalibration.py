"""Calibration intercept and slope, against maximum likelihood by scipy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units, units_of
from jaxmed.evaluation.intervals.estimate import estimate
from jaxmed.evaluation.metrics.probability_scores import Recalibration


def drawn(draw, n=400, slope=1.5, intercept=0.4):
    """Probabilities whose logit is that much too large."""
    rng = np.random.default_rng(0)
    exact = rng.normal(-1, 1.5, n)
    p = expit((exact - intercept) * slope)
    return replace(
        draw("binary", classes=2, n=n),
        labels=(rng.random(n) < expit(exact)).astype(int),
        probs=np.stack([1 - p, p], axis=1),
    )


def test_both_have_the_greatest_likelihood(draw):
    predictions = drawn(draw)
    p, y = predictions.probs, predictions.labels
    logit = np.log(p[:, 1]) - np.log(p[:, 0])

    def loss(a, b):
        return (np.logaddexp(0, a + b * logit) - y * (a + b * logit)).sum()

    both = minimize(lambda x: loss(*x), [0, 1], method="BFGS", options={"gtol": 1e-8})
    alone = minimize(lambda x: loss(x[0], 1), [0], method="BFGS")
    values = Recalibration(predictions).values()
    assert values[("slope",)] == pytest.approx(both.x[1], abs=1e-5)
    assert values[("intercept",)] == pytest.approx(alone.x[0], abs=1e-5)


def test_intervals_hold_what_was_put_in(draw):
    predictions = drawn(draw, n=5000)
    measure, bootstrap = Recalibration(predictions), Bootstrap(resamples=1)
    found = estimate([measure], Units(5000), bootstrap)
    slope = found[("slope",)]
    assert slope["ci_low"] < 1 / 1.5 < slope["ci_high"] < 1
    copies = np.repeat(np.arange(5000), 2)
    many = predictions.take(np.arange(5000))
    many = replace(
        many,
        ids=tuple(map(str, range(10_000))),
        labels=many.labels[copies],
        probs=many.probs[copies],
        groups=tuple(map(str, copies)),
    )
    again = estimate([Recalibration(many)], units_of(many), bootstrap)
    assert again[("slope",)]["ci_low"] == pytest.approx(slope["ci_low"], abs=1e-9)


def test_what_cannot_be_fitted_says_why(draw):
    predictions = drawn(draw, n=40)
    apart = np.where(predictions.truth, 0.8, 0.2)
    values = Recalibration(predictions, apart).values()
    assert values[("slope",)].reason == "a threshold separates the classes"
    alike = np.full((40, 2), 0.5)
    values = Recalibration(predictions, alike).values()
    assert values[("slope",)].reason == "all probabilities are alike"
    share = predictions.labels.mean()
    assert values[("intercept",)] == pytest.approx(np.log(share / (1 - share)))
