"""DeLong's covariance and test against their definition."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from jaxmed.evaluation.intervals.auc import auroc_covariance, delong_test


def by_definition(truth, scores):
    """DeLong et al. 1988, eq. 5, with the kernel of every pair written out."""
    positives, negatives = scores[:, truth], scores[:, ~truth]
    difference = positives[:, :, None] - negatives[:, None, :]
    kernel = (difference > 0) + (difference == 0) / 2
    of_positives, of_negatives = kernel.mean(axis=2), kernel.mean(axis=1)
    auroc = kernel.mean(axis=(1, 2))

    def covariance(parts):
        centered = parts - auroc[:, None]
        return centered @ centered.T / (parts.shape[1] - 1) / parts.shape[1]

    return auroc, covariance(of_positives) + covariance(of_negatives)


@pytest.mark.parametrize("levels", [5, 10_000])
def test_covariance_is_delongs(levels):
    random = np.random.default_rng(levels)
    truth = random.random(150) < 0.3
    scores = (random.random((3, 150)) + 0.3 * truth) * levels // 1
    auroc, covariance = auroc_covariance(truth, scores)
    expected = by_definition(truth, scores)
    assert auroc == pytest.approx(expected[0], abs=1e-12)
    assert covariance == pytest.approx(expected[1], abs=1e-12)
    each = [roc_auc_score(truth, one) for one in scores]
    assert auroc == pytest.approx(each, abs=1e-12)


@pytest.mark.parametrize("levels", [5, 10_000])
def test_difference_is_tested_with_delongs_variance(levels):
    random = np.random.default_rng(levels)
    truth = random.random(120) < 0.4
    scores = (random.random((3, 120)) + 0.2 * truth) * levels // 1
    found = delong_test(truth, scores[:1], scores[1:])
    auroc, covariance = by_definition(truth, scores)
    contrast = np.array([1, -0.5, -0.5])
    error = np.sqrt(contrast @ covariance @ contrast)
    difference = contrast @ auroc
    assert found.p == pytest.approx(2 * norm.sf(abs(difference) / error))
    expected = difference + norm.ppf([0.025, 0.975]) * error
    assert found.interval == pytest.approx(expected)


def test_equal_rankings_do_not_differ():
    random = np.random.default_rng(1)
    truth = random.random(80) < 0.4
    scores = random.random((3, 80))
    found = delong_test(truth, scores, scores[::-1] / 3 + 0.1)
    assert (found.interval, found.p) == ((0, 0), 1)


def test_there_is_no_test_without_two_of_each_or_without_variance():
    truth = np.array([False, False, True, True])
    perfect, inverted = np.array([[1.0, 2, 3, 4]]), np.array([[4.0, 3, 2, 1]])
    assert delong_test(truth, perfect, inverted) is None
    assert delong_test(np.arange(4) == 3, perfect, inverted) is None


def test_equal_models_are_called_different_as_often_as_promised():
    """500 pairs at a level of 5 %: the standard error is 1 %."""
    random = np.random.default_rng(5)
    truth = np.arange(120) < 50
    wrong = 0
    for _ in range(500):
        seen = random.normal(size=120) + truth
        a, b = (seen + random.normal(size=120) for _ in range(2))
        wrong += delong_test(truth, a[None], b[None]).p < 0.05
    assert 0.02 <= wrong / 500 <= 0.085
