"""A metric added to the registry is evaluated and compared."""

import numpy as np
import pytest

from jaxmed.evaluation import compare_arms, evaluate
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.intervals.estimate import Measure, Undefined
from jaxmed.evaluation.metrics.registry import METRICS, Metric, metric_names
from jaxmed.report.tables.formatting import metric_title


class MeanProbability(Measure):
    """Mean probability of the true class."""

    def __init__(self, predictions):
        self.images = len(predictions.ids)
        self._probs = predictions.probs[predictions.truth]

    def resampled(self, counts):
        return {("mean_probability",): self._probs @ counts / counts.sum(axis=0)}

    def reason(self, key):
        return Undefined("no image")


@pytest.fixture
def registered(monkeypatch):
    metric = Metric(MeanProbability, "mean probability")
    monkeypatch.setitem(METRICS, "mean_probability", metric)


def test_a_registered_metric_is_evaluated_and_compared(draw, registered):
    val = draw("binary", classes=2, split="val")
    test = draw("binary", classes=2)
    found = evaluate(val, test, resamples=50)["test"]["mean_probability"]
    assert found["value"] == pytest.approx(test.probs[test.truth].mean())
    assert found["ci_low"] < found["value"] < found["ci_high"]
    arms = {name: [apply_thresholds(test)] for name in "ab"}
    (pair,) = compare_arms(arms, resamples=50)["comparisons"]
    assert pair["metrics"]["mean_probability"]["value"] == 0


def test_titles_and_order_are_those_of_the_registry(draw):
    names = metric_names(draw("ordinal"))
    assert names == list(METRICS)
    assert "quadratic_kappa" not in metric_names(draw("multiclass"))
    assert [metric_title(name) for name in names] == [
        metric.title for metric in METRICS.values()
    ]
    many = draw("multiclass", n=500, classes=201, decimals=None)
    assert not {"auroc", "auprc"} & set(metric_names(many))
    assert np.isinf(METRICS["log_loss"].limits[1])
