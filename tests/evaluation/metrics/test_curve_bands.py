"""Bands of curves, against scikit-learn's curves of the same resamples."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import levels
from jaxmed.evaluation.metrics.operating_points import (
    GRID,
    precision_recall_band,
    roc_band,
)


def sensitivities(truth, scores, weights):
    """The highest sensitivity with no more false positives than allowed."""
    false, true, _ = roc_curve(
        truth, scores, sample_weight=weights, drop_intermediate=False
    )
    return [true[false <= allowed + 1e-12].max() for allowed in GRID]


def precisions(truth, scores, weights):
    """The precision at the highest threshold that finds enough."""
    precision, recall, _ = precision_recall_curve(truth, scores, sample_weight=weights)
    return [precision[:-1][recall[:-1] >= least - 1e-12][-1] for least in GRID]


KINDS = [(roc_band, sensitivities), (precision_recall_band, precisions)]


@pytest.mark.parametrize("decimals", [1, None])
@pytest.mark.parametrize(("band", "curve"), KINDS)
def test_a_band_holds_the_curves_of_resamples(draw, band, curve, decimals):
    predictions = draw("binary", n=60, classes=2, decimals=decimals)
    found = band(predictions, [1], resamples=20, seed=3)
    truth, scores = predictions.truth[:, 1], predictions.probs[:, 1]
    expected = curve(truth, scores, np.ones(60))
    assert found.value == pytest.approx(expected, abs=1e-12)
    (counts,) = Bootstrap(resamples=20, seed=3).counts(units_of(predictions))
    curves = [curve(truth, scores, column) for column in counts.T]
    low, high = np.quantile(curves, levels(60), axis=0)
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)
    assert (found.high - found.low).max() > 0.1


@pytest.mark.parametrize(("band", "curve"), KINDS)
def test_several_classes_are_averaged_and_unknown_labels_left_out(draw, band, curve):
    predictions = draw("multilabel", n=50, classes=3)
    labels = predictions.labels.copy()
    labels[:20, 1] = -1
    predictions = replace(predictions, labels=labels)
    found = band(predictions, range(3), resamples=5)
    expected = []
    for i in range(3):
        rows = labels[:, i] >= 0
        scores = predictions.probs[rows, i]
        expected.append(curve(labels[rows, i], scores, np.ones(rows.sum())))
    assert found.value == pytest.approx(np.mean(expected, axis=0), abs=1e-12)


@pytest.mark.parametrize("band", [roc_band, precision_recall_band])
def test_there_is_no_band_of_few_patients(draw, band):
    predictions = draw("binary", n=60, classes=2)
    labels = predictions.labels
    of_four = tuple(f"p{i % 4}" if labels[i] else f"n{i}" for i in range(60))
    of_five = tuple(f"p{i % 5}" if labels[i] else f"n{i}" for i in range(60))
    assert band(replace(predictions, groups=of_four), [1], resamples=40) is None
    found = band(replace(predictions, groups=of_five), [1], resamples=40)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("band", [roc_band, precision_recall_band])
def test_there_is_no_band_of_one_class(draw, band):
    predictions = draw("binary", n=20, classes=2)
    alone = replace(predictions, labels=np.zeros(20, int))
    assert band(alone, [1]) is None
