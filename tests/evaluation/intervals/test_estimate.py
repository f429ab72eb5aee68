"""Intervals hold what they promise."""

import numpy as np
import pytest
from scipy.stats import norm, t

from jaxmed.evaluation.intervals.estimate import Undefined, as_estimate, levels


def test_interval_is_numpys_percentiles():
    samples = np.random.default_rng(0).normal(size=999)
    result = as_estimate(0.5, np.append(samples, np.nan))
    low, high = np.percentile(samples, [2.5, 97.5])
    assert result == pytest.approx({"value": 0.5, "ci_low": low, "ci_high": high})


def test_quantiles_of_few_units_are_farther_out():
    """Hesterberg 2015: a normal interval then has Student's width around the mean."""
    for units in (5, 10, 50):
        tail, other = levels(units)
        far = norm.ppf(other) * np.sqrt((units - 1) / units)
        assert far == pytest.approx(t.ppf(0.975, units - 1))
        assert tail == pytest.approx(1 - other)
    assert levels(10**7) == pytest.approx((0.025, 0.975), abs=1e-6)
    assert levels() == pytest.approx((0.025, 0.975))


def test_resamples_that_cannot_tell_give_no_interval():
    alike = as_estimate(1.0, np.ones(50), 30)
    assert (alike["ci_low"], alike["reason"]) == (None, "the same in every resample")
    few = as_estimate(0.5, np.linspace(0, 1, 50), 4)
    assert (few["value"], few["ci_high"]) == (0.5, None)
    assert few["reason"] == "fewer than 5 were drawn from"


def test_undefined_values_and_intervals():
    none = {"value": None, "ci_low": None, "ci_high": None}
    nan = np.full(3, np.nan)
    assert as_estimate(Undefined("why"), nan) == none | {"reason": "why"}
    interval = {"ci_low": None, "ci_high": None}
    expected = {"value": 1.0, "reason": "in no resample"} | interval
    assert as_estimate(1.0, nan) == expected
