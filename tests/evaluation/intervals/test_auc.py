"""Intervals of areas, against definitions, and where nothing is wrong."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jaxmed.evaluation.intervals.auc import (
    Spread,
    area,
    area_interval,
    auprc_interval,
    auroc_covariance,
    logit_interval,
    mean_area_interval,
    newcombe,
)
from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import Interval
from jaxmed.evaluation.metrics.operating_points import OperatingPoints

Z = 1.959963984540054


def drawn(n=150, levels=10_000, seed=0):
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    return truth, (random.random(n) + 0.3 * truth) * levels // 1


@pytest.mark.parametrize("levels", [5, 10_000])
def test_influence_squared_is_delongs_variance(levels):
    truth, scores = drawn(levels=levels)
    found = area(truth, scores, Units(150))
    (auroc,), ((variance,),) = auroc_covariance(truth, scores[None])
    assert found.value == pytest.approx(auroc, abs=1e-12)
    assert np.square(found.influence).sum() == pytest.approx(variance, rel=1e-12)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_auroc_has_delongs_interval_on_the_logit():
    truth, scores = drawn(5000)
    (auroc,), ((variance,),) = auroc_covariance(truth, scores[None])
    half = Z * np.sqrt(variance) / (auroc * (1 - auroc))
    logit = np.log(auroc / (1 - auroc))
    expected = [1 / (1 + np.exp(-(logit + side * half))) for side in (-1, 1)]
    found = area_interval(area(truth, scores, Units(5000)), Units(5000))
    assert found.method == "logit_delong"
    # Student's t of some thousand degrees of freedom is a little wider.
    assert found[:2] == pytest.approx(expected, abs=1e-5)


def test_copies_of_a_patients_image_tell_nothing():
    truth, scores = drawn()
    one = area_interval(area(truth, scores, Units(150)), Units(150))
    copies = np.repeat(np.arange(150), 6)
    units = Units(150, copies)
    many = area_interval(area(truth[copies], scores[copies], units), units)
    assert many[:2] == pytest.approx(one[:2], rel=1e-9)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (3, 9), (4, 400)])
def test_a_perfect_score_of_few_is_not_certain(positives, negatives):
    truth = np.arange(positives + negatives) < positives
    units = Units(len(truth))
    found = area_interval(area(truth, truth.astype(float), units), units)
    assert found.method == "newcombe"
    assert found.high == 1
    assert 0.2 < found.low < 0.9


@pytest.mark.parametrize("value", [0.0, 0.3, 0.9, 1.0])
def test_newcombes_ends_are_as_far_away_as_stated(value):
    found = newcombe(value, 12, 30)
    for end in found[:2]:
        if end in (0.0, 1.0):
            continue
        spread = 1 + 20 * ((1 - end) / (2 - end) + end / (1 + end))
        error = np.sqrt(end * (1 - end) * spread / 360)
        assert abs(value - end) == pytest.approx(Z * error, rel=1e-6)
    assert found.low <= value <= found.high


@pytest.mark.parametrize("levels", [4, 10_000])
def test_the_bias_of_average_precision_is_the_jackknifes(levels):
    truth, scores = drawn(60, levels)
    left_out = [
        average_precision_score(np.delete(truth, i), np.delete(scores, i))
        for i in range(60)
    ]
    value = average_precision_score(truth, scores)
    expected = 59 * (np.mean(left_out) - value)
    points = OperatingPoints(truth, scores, np.arange(60), 60)
    assert points.jackknife_bias() == pytest.approx(expected, abs=1e-12)
    assert expected > 0


def test_an_auprc_of_few_is_at_least_as_unsure_as_a_share():
    narrow = auprc_interval(0.8, Spread(0.001, 0.0), 4, few=False)
    wide = auprc_interval(0.8, Spread(0.001, 0.0), 4, few=True)
    assert wide.low < 0.3 < 0.7 < narrow.low
    perfect = auprc_interval(1.0, Spread(0.0, 0.0), 3, few=True)
    assert perfect == pytest.approx(Interval(0.4385, 1.0, "wilson"), abs=1e-4)


def test_the_value_is_always_inside():
    found = logit_interval(0.3, Spread(0.001, 0.1))
    assert found.low < 0.2 < found.high == 0.3


def test_a_mean_with_a_class_of_few_is_no_surer_than_its_classes():
    each = [(1.0, Interval(0.4, 1.0)), (0.9, Interval(0.85, 0.95))]
    narrow = mean_area_interval(0.95, Spread(0.01, 0.0), each, few=False)
    wide = mean_area_interval(0.95, Spread(0.01, 0.0), each, few=True)
    assert wide.low == pytest.approx(0.95 - np.hypot(0.6, 0.05) / 2)
    assert narrow.low > 0.9
    perfect = [(1.0, Interval(0.4, 1.0)), (1.0, Interval(0.8, 1.0))]
    found = mean_area_interval(1.0, Spread(0.0, 0.0), perfect, few=False)
    assert (found.high, found.method) == (1.0, "mover")
