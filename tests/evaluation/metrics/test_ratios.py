"""Brier skill score and O:E ratio, against scikit-learn and statsmodels."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t
from sklearn.metrics import brier_score_loss

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import estimate
from jaxmed.evaluation.metrics.probability_scores import Ratios


def estimates(predictions):
    measure, bootstrap = Ratios(predictions), Bootstrap(resamples=1)
    return estimate([measure], units_of(predictions), bootstrap)


def skill(predictions):
    """1 - Brier / that of the prevalences, by scikit-learn, label by label."""
    pairs = []
    for i in range(len(predictions.class_names)):
        known = predictions.known[:, i]
        truth, p = predictions.truth[known, i], predictions.probs[known, i]
        prevalence = np.full(len(truth), truth.mean())
        losses = [brier_score_loss(truth, q) * len(truth) for q in (p, prevalence)]
        pairs.append(losses)
    ours, reference = np.sum(pairs, axis=0)
    return 1 - ours / reference


@pytest.mark.parametrize(
    ("task", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)]
)
def test_skill_is_that_of_brier_scores(draw, task, classes):
    predictions = draw(task, classes=classes, decimals=None)
    if task == "multilabel":
        predictions.labels[np.random.default_rng(0).random((200, 3)) < 0.2] = -1
    found = estimates(predictions)
    assert found[("brier_skill",)]["value"] == pytest.approx(skill(predictions))
    assert (("oe_ratio",) in found) == (task == "binary")


def by_poisson(above, below, groups):
    """Log of the ratio of sums and its robust error: a Poisson model with offset."""
    model = sm.GLM(
        above, np.ones(len(above)), family=sm.families.Poisson(), offset=np.log(below)
    )
    m = len(np.unique(groups))
    options = {"groups": groups, "use_correction": False}
    fit = model.fit(cov_type="cluster", cov_kwds=options, tol=1e-12)
    half = t.ppf(0.975, m - 1) * fit.bse[0] * (m / (m - 1)) ** 0.5
    return np.exp(fit.params[0] + np.array([0, -half, half]))


@pytest.mark.parametrize("per_patient", [1, 4])
def test_intervals_are_those_of_a_poisson_model_with_an_offset(draw, per_patient):
    predictions = draw("binary", classes=2, decimals=None)
    groups = np.arange(200) // per_patient
    predictions = replace(predictions, groups=tuple(map(str, groups)))
    found = estimates(predictions)
    y, p = predictions.labels.astype(float), predictions.probs[:, 1]
    oe = found[("oe_ratio",)]
    assert oe["value"] == pytest.approx(y.sum() / p.sum())
    expected = by_poisson(y, p, groups)
    ends = [oe[part] for part in ("value", "ci_low", "ci_high")]
    assert ends == pytest.approx(expected, rel=1e-8)
    errors, reference = (y - p) ** 2, (y - y.mean()) ** 2
    value, low, high = by_poisson(errors, reference, groups)
    score = found[("brier_skill",)]
    ends = [score[part] for part in ("value", "ci_low", "ci_high")]
    assert ends == pytest.approx([1 - value, 1 - high, 1 - low], abs=1e-7)


def test_what_is_undefined_says_why(draw):
    predictions = draw("binary", classes=2)
    one = replace(predictions, labels=np.zeros(200, int))
    found = estimates(one)
    assert found[("brier_skill",)]["reason"] == "one class only"
    assert found[("oe_ratio",)]["value"] == 0
    never = replace(predictions, probs=np.tile([1.0, 0.0], (200, 1)))
    reason = "every predicted probability is 0"
    assert estimates(never)[("oe_ratio",)]["reason"] == reason
