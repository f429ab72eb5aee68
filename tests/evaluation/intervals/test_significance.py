"""Tests of a difference against scipy and the formulas of their papers."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, norm

from jaxmed.evaluation.intervals.significance import (
    bootstrap_p,
    holm,
    mcnemar,
    wald,
)


def right(both: int, only_a: int, only_b: int, neither: int):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    order = np.random.default_rng(0).permutation(len(a))
    return a[order], b[order]


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 0), (3, 9), (12, 12), (20, 4)])
def test_few_discordant_pairs_are_tested_exactly(only_a, only_b):
    found = mcnemar(*right(70, only_a, only_b, 13))
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert found == {
        "p": pytest.approx(expected),
        "test": "mcnemar_exact",
        "only_a": only_a,
        "only_b": only_b,
    }


@pytest.mark.parametrize(("only_a", "only_b"), [(20, 5), (40, 39), (13, 13), (5, 60)])
def test_many_discordant_pairs_are_tested_with_continuity(only_a, only_b):
    found = mcnemar(*right(200, only_a, only_b, 31))
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / (only_a + only_b)
    assert found["test"] == "mcnemar_chi2"
    assert found["p"] == pytest.approx(chi2.sf(statistic, df=1))


def test_models_that_are_right_about_the_same_images_do_not_differ():
    assert mcnemar(*right(50, 0, 0, 7))["p"] == 1


def test_bootstrap_p_is_the_level_at_which_the_interval_holds_zero():
    samples = np.random.default_rng(0).normal(0.3, 0.2, 1999)
    p = bootstrap_p(samples)
    for level, holds in ((p * 1.05, False), (p * 0.95, True)):
        low, high = np.quantile(samples, [level / 2, 1 - level / 2])
        assert (low <= 0 <= high) == holds
    assert bootstrap_p(-samples) == p


def test_bootstrap_p_at_its_ends():
    assert bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(999)) == 1
    assert bootstrap_p(np.full(3, np.nan)) is None
    assert bootstrap_p(np.array([np.nan, 1.0])) == 1


def test_holm_as_by_hand():
    found = holm([0.01, None, 0.04, 0.03, 0.005])
    assert found == [pytest.approx(0.03), None, pytest.approx(0.06),
                     pytest.approx(0.06), pytest.approx(0.02)]  # fmt: skip
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.6]) == [0.6]
    assert holm([None]) == [None]


def test_holm_rejects_what_the_stepwise_procedure_rejects():
    random = np.random.default_rng(2)
    for _ in range(50):
        p = random.random(6) ** 4
        rejected, left = set(), 6
        for i in np.argsort(p):
            if p[i] > 0.05 / left:
                break
            rejected.add(i)
            left -= 1
        assert {i for i, q in enumerate(holm(list(p))) if q <= 0.05} == rejected


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
def test_intervals_stay_within_limits_and_meet_the_normal_ones_in_the_middle(limits):
    low, high = wald(0.98, 0.03**2, limits)
    assert limits[0] < low < 0.98 < high <= 1
    middle = wald(0.5, 0.01**2, limits)
    expected = 0.5 + norm.ppf([0.025, 0.975]) * 0.01
    assert middle == pytest.approx(tuple(expected), abs=2e-5)


def test_the_interval_of_a_logit_is_by_the_delta_method():
    value, error = 0.9, 0.04
    ends = np.array(wald(value, error**2, (0.0, 1.0)))
    ends = np.log(ends / (1 - ends))
    assert ends.mean() == pytest.approx(np.log(9))
    assert np.diff(ends) == pytest.approx(2 * norm.ppf(0.975) * error / 0.09)
