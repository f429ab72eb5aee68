"""DeLong's covariance and test against their definition."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from jaxmed.evaluation.intervals.auc import auroc_covariance, delong_test
from jaxmed.evaluation.intervals.bootstrap import Units


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
    assert found == ((0, 0), 0, 1)


def obuchowski(truth, a, b, cluster):
    """The difference and its variance as Obuchowski 1997 writes them, in loops."""

    def kernel(scores, i, j):
        return (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2

    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    m, n, clusters = len(positives), len(negatives), sorted(set(cluster))
    # Of each arm: V10 and V01, summed over the positives and negatives of a cluster.
    parts, areas = [], []
    for scores in (a, b):
        v10 = {i: np.mean([kernel(scores, i, j) for j in negatives]) for i in positives}
        v01 = {j: np.mean([kernel(scores, i, j) for i in positives]) for j in negatives}
        area = np.mean([*v10.values()])
        areas.append(area)
        of = []
        for c in clusters:
            ours = [i for i in positives if cluster[i] == c]
            theirs = [j for j in negatives if cluster[j] == c]
            of.append(
                (
                    sum(v10[i] for i in ours) - len(ours) * area,
                    sum(v01[j] for j in theirs) - len(theirs) * area,
                )
            )
        parts.append(of)
    having = [
        sum(any(truth[cluster == c] == kind) for c in clusters)
        for kind in (True, False)
    ]

    def covariance(x, y):
        s10 = sum(p[0] * q[0] for p, q in zip(x, y, strict=True))
        s01 = sum(p[1] * q[1] for p, q in zip(x, y, strict=True))
        s11 = sum(p[0] * q[1] for p, q in zip(x, y, strict=True))
        s11b = sum(p[1] * q[0] for p, q in zip(x, y, strict=True))
        s10 *= having[0] / ((having[0] - 1) * m)
        s01 *= having[1] / ((having[1] - 1) * n)
        s11, s11b = (s * len(clusters) / (len(clusters) - 1) for s in (s11, s11b))
        return s10 / m + s01 / n + (s11 + s11b) / (m * n)

    (x, y) = parts
    variance = covariance(x, x) + covariance(y, y) - 2 * covariance(x, y)
    return areas[0] - areas[1], variance


@pytest.mark.parametrize("levels", [5, 10_000])
def test_of_patients_the_variance_is_obuchowskis(levels):
    random = np.random.default_rng(levels)
    cluster = random.integers(0, 25, 90)
    truth = random.random(90) < 0.4
    shared = random.random(25)[cluster]
    a, b = (
        np.floor((random.random(90) + shared + 0.3 * truth) * levels) for _ in range(2)
    )
    places = np.unique(cluster, return_inverse=True)[1]
    tested = delong_test(truth, a[None], b[None], Units(places.max() + 1, places))
    difference, variance = obuchowski(truth, a, b, cluster)
    assert tested.error == pytest.approx(variance**0.5, abs=1e-12)
    assert tested.p == pytest.approx(2 * norm.sf(abs(difference) / tested.error))
    alone = delong_test(truth, a[None], b[None], Units(90, np.arange(90)))
    assert alone.error == pytest.approx(delong_test(truth, a[None], b[None]).error)


def test_patients_that_are_alike_are_not_called_different():
    """300 pairs at a level of 5 %: as independent images they are in 20 % of them."""
    random = np.random.default_rng(7)
    cluster = np.repeat(np.arange(40), 4)
    truth, units = cluster % 2 == 0, Units(40, cluster)
    wrong = {"patients": 0, "images": 0}
    for _ in range(300):
        seen = random.normal(size=40)[cluster] + truth
        a, b = (
            seen + random.normal(size=40)[cluster] + 0.3 * random.normal(size=160)
            for _ in range(2)
        )
        wrong["patients"] += delong_test(truth, a[None], b[None], units).p < 0.05
        wrong["images"] += delong_test(truth, a[None], b[None]).p < 0.05
    assert wrong["patients"] / 300 <= 0.1
    assert wrong["images"] / 300 >= 0.2


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
