"""Metrics of resamples are those of the images drawn.

That those of a split are scikit-learn's is in test_evaluate.py.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.metrics.classification import Decisions
from jaxmed.evaluation.metrics.operating_points import (
    OperatingPoints,
    ThresholdDecisions,
)
from jaxmed.evaluation.metrics.probability_scores import Losses
from jaxmed.evaluation.metrics.ranking import Ranking, RankSum
from jaxmed.evaluation.thresholds import METHODS, ThresholdChoice, ThresholdRule

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4), ("ordinal", 3)]


def thresholded(predictions):
    names = predictions.class_names
    names = names[1:] if predictions.task == "binary" else names
    thresholds = {name: 0.1 + 0.2 * i for i, name in enumerate(names)}
    prevalence = 0.2 if predictions.task == "binary" else None
    return ThresholdDecisions(predictions, thresholds, prevalence)


MEASURES = {
    "decisions": Decisions,
    "losses": Losses,
    "ranking": Ranking,
    "at_threshold": thresholded,
    **{
        f"threshold {method}": lambda predictions, method=method: ThresholdChoice(
            predictions, ThresholdRule(method=method, target=0.7, cost=3)
        )
        for method in METHODS
    },
}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("name", MEASURES)
def test_of_resamples(draw, name, task, classes, grouped):
    predictions = draw(task, n=60, classes=classes)
    if grouped:
        groups = tuple(str(i // 3) for i in range(60))
        predictions = replace(predictions, groups=groups)
    if task == "multilabel":
        missing = np.random.default_rng(1).random((60, classes)) < 0.2
        labels = np.where(missing, -1, predictions.labels)
        predictions = replace(predictions, labels=labels)
    measure = MEASURES[name](predictions)
    (counts,) = Bootstrap(resamples=10).counts(units_of(predictions))
    samples = measure.resampled(counts)
    assert samples.keys() == measure.values().keys()
    for column in range(10):
        rows = np.repeat(np.arange(60), counts[:, column].astype(int))
        drawn = replace(
            predictions,
            ids=tuple(map(str, range(len(rows)))),
            labels=predictions.labels[rows],
            probs=predictions.probs[rows],
            groups=None,
        )
        for key, value in MEASURES[name](drawn).values().items():
            expected = np.nan if isinstance(value, Undefined) else value
            if key == ("balanced_accuracy",) and np.isnan(samples[key][column]):
                # A class of the split has no image in the resample.
                assert len(np.unique(drawn.labels)) < classes
                continue
            close = pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)
            assert samples[key][column] == close, key


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_areas_with_weights_and_ties(share, levels):
    random = np.random.default_rng(levels)
    truth = random.random(300) < share
    scores = random.integers(0, levels, 300) / levels
    counts = random.integers(0, 4, (300, 10)).astype(float)
    result = RankSum(truth, scores)(counts)
    points = OperatingPoints(truth, scores, np.arange(300), 300)
    precision = points.average_precision(counts)
    for column in range(10):
        weights = {"sample_weight": counts[:, column]}
        expected = sk.roc_auc_score(truth, scores, **weights)
        assert result[column] == pytest.approx(expected, rel=0, abs=1e-12)
        expected = sk.average_precision_score(truth, scores, **weights)
        assert precision[column] == pytest.approx(expected, rel=0, abs=1e-12)


def test_auroc_of_a_resample_with_one_class_is_nan():
    truth, scores = np.array([True, False, False]), np.array([0.3, 0.2, 0.9])
    counts = np.array([[0, 1], [1, 1], [2, 1.0]])
    result = RankSum(truth, scores)(counts)
    assert np.isnan(result[0])
    assert result[1] == 0.5
    assert np.isnan(RankSum(np.ones(3, bool), scores)(counts)).all()
