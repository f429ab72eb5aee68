"""Wilson's interval, likelihood ratios at their limits, predictive values by Bayes."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_score

from jaxmed.evaluation.at_threshold import predictive_values
from jaxmed.evaluation.proportions import ClassCounts, scores, wilson


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
