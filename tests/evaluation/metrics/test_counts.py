"""Wilson's interval, likelihood ratios at their limits, predictive values by Bayes."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_score

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.proportions import (
    Share,
    class_intervals,
    mean_interval,
    ratio_interval,
    shares,
    wilson,
)
from jaxmed.evaluation.metrics.counts import ClassCounts, scores
from jaxmed.evaluation.metrics.operating_points import predictive_values


@pytest.mark.parametrize("trials", [1, 2, 17, 5000])
def test_wilson_is_scipys(trials):
    hits = np.unique([0, 1, trials // 3, trials - 1, trials])
    low, high = wilson(hits, np.full(len(hits), trials))
    for i, k in enumerate(hits):
        expected = binomtest(int(k), trials).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high))


def test_wilson_of_nothing_is_nan():
    assert np.isnan(wilson(np.zeros(1), np.zeros(1))).all()


def test_what_is_divided_by_zero_is_nan():
    truth = np.array([[True], [True], [False]])
    counts = ClassCounts(truth, truth, np.ones((3, 1), bool))
    found = {name: one[0, 0] for name, one in scores(counts(np.ones((3, 1)))).items()}
    assert np.isnan(found["lr_positive"])  # no false positive: infinite
    assert found["lr_negative"] == 0
    assert found["mcc"] == found["kappa"] == found["ppv"] == 1
    counts = ClassCounts(truth, ~truth, np.ones((3, 1), bool))
    found = {name: one[0, 0] for name, one in scores(counts(np.ones((3, 1)))).items()}
    assert np.isnan(found["lr_negative"])
    assert found["lr_positive"] == 0


def test_predictive_values_are_those_of_a_population_with_the_prevalence():
    """100,000 people, 2 % of them ill, of whom the test finds 90 %."""
    truth = np.repeat([1, 0], [2000, 98_000])
    decided = np.zeros(100_000, int)
    decided[:1800] = 1
    decided[2000 : 2000 + 4900] = 1
    sensitivity, specificity = np.array([0.9]), np.array([1 - 4900 / 98_000])
    ppv, npv = predictive_values(sensitivity, specificity, 0.02)
    assert ppv == pytest.approx([precision_score(truth, decided)], abs=1e-12)
    expected = precision_score(truth, decided, pos_label=0)
    assert npv == pytest.approx([expected], abs=1e-12)


def share(hits, trials):
    (found,) = shares(np.array([[hits]]), np.array([[trials]]), clustered=False)
    return found


def test_patients_whose_images_are_all_alike_count_once():
    """Ten copies of each image tell what one does, but for Student's t."""
    hits = np.array([[1, 1, 0, 1, 0, 1, 1, 1, 0, 1] * 4])
    (copies,) = shares(hits * 10, np.full_like(hits, 10), clustered=True)
    (one,) = shares(hits, np.ones_like(hits), clustered=True)
    assert copies.value == one.value == 0.7
    assert copies.interval == pytest.approx(one.interval)
    alone = share(28, 40)
    assert copies.low < alone.low < alone.high < copies.high
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.05)
    # Where all are found there is no variance to tell how alike they are.
    (all_found,) = shares(np.full((1, 8), 5), np.full((1, 8), 5), clustered=True)
    assert 0.5 < all_found.low < share(8, 8).low
    assert all_found.high == 1


def test_patients_whose_images_are_independent_count_as_images():
    random = np.random.default_rng(0)
    hits = random.binomial(4, 0.8, (1, 500))
    (found,) = shares(hits, np.full_like(hits, 4), clustered=True)
    alone = share(hits.sum(), 2000)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.06)


def test_a_difference_of_two_shares_has_newcombes_interval():
    """The example of Newcombe 1998, Table II: 56/70 - 48/80 in [0.0524, 0.3339]."""
    found = mean_interval([share(56, 70), share(48, 80).rest])
    ends = 2 * found.low - 1, 2 * found.high - 1
    assert ends == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_likelihood_ratios_have_simels_interval():
    error = np.sqrt(1 / 36 - 1 / 40 + 1 / 1 - 1 / 60)
    expected = 54 * np.exp(np.array([-1, 1]) * 1.959963984540054 * error)
    found = ratio_interval(share(36, 40), share(1, 60))
    assert found[:2] == pytest.approx(expected)
    nothing_found = ratio_interval(share(0, 40), share(6, 60))
    assert nothing_found.low == 0
    assert 0.1 < nothing_found.high < 10
    no_alarm = ratio_interval(share(30, 40), share(0, 60))
    assert 1 < no_alarm.low < no_alarm.high == np.inf
    all_found = ratio_interval(share(40, 40), share(30, 60))
    assert all_found.low < 2 < all_found.high


def test_f1_and_predictive_values_have_intervals_of_what_they_are_functions_of():
    truth = np.repeat([True, False], [40, 60])
    decided = np.r_[np.arange(40) < 36, np.arange(60) < 6]
    counts = ClassCounts(truth[:, None], decided[:, None], np.ones((100, 1), bool))
    units = Units(100)
    (found,) = class_intervals(counts.by_unit(units), units, prevalence=0.1)
    low, high = binomtest(36, 46).proportion_ci(method="wilson")
    assert found["f1"][:2] == pytest.approx(
        (2 * low / (1 + low), 2 * high / (1 + high))
    )
    ratio = found["lr_positive"]
    expected = [0.1 * end / (0.1 * end + 0.9) for end in ratio[:2]]
    assert found["ppv_at_prevalence"][:2] == pytest.approx(expected)
    ratio = found["lr_negative"]
    expected = [0.9 / (0.9 + 0.1 * end) for end in (ratio.high, ratio.low)]
    assert found["npv_at_prevalence"][:2] == pytest.approx(expected)
    assert found["sensitivity"].method == "wilson"


def test_nothing_to_count_is_no_error():
    nothing = Share(np.nan, np.nan, np.nan, 0.0, "wilson")
    assert np.isnan(ratio_interval(nothing, share(1, 2)).low)
