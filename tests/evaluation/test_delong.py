"""DeLong's covariance against its definition, and what its interval promises."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from jaxmed.evaluation.delong import auroc_covariance, delong_interval, delong_test


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


def test_interval_is_around_the_auroc_and_within_bounds():
    random = np.random.default_rng(0)
    truth = np.arange(100) < 40
    scores = random.normal(size=100) + truth
    auroc, variance = by_definition(truth, scores[None])
    half = 1.959963984540054 * np.sqrt(variance[0, 0])
    expected = auroc[0] - half, auroc[0] + half
    assert delong_interval(truth, scores) == pytest.approx(expected)
    nearly = np.where(truth, 1.0, 0.0)
    nearly[0], nearly[99] = 0.4, 0.5
    assert delong_interval(truth, nearly)[1] == 1


def test_there_is_none_without_two_of_each_or_without_overlap():
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    assert delong_interval(np.array([True, False, False, False]), scores) is None
    assert delong_interval(np.array([False, False, True, True]), scores) is None


def test_intervals_cover_the_truth():
    """Normal scores one standard deviation apart: the AUROC is Phi(1/sqrt 2).

    400 cases have a standard error of 1.1 %.
    """
    random = np.random.default_rng(3)
    truth = np.arange(120) < 50
    covered = 0
    for _ in range(400):
        low, high = delong_interval(truth, random.normal(size=120) + truth)
        covered += low <= 0.7602499389065233 <= high
    assert 0.915 <= covered / 400 <= 0.985


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
