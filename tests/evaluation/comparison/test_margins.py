"""Non-inferiority and equivalence, against statsmodels."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.weightstats import ttost_paired

from jaxmed.errors import InputError
from jaxmed.evaluation import compare_arms, decision_curve
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.comparison.margins import margin_tests
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of


def pairs(values, errors, metric="auroc", df=np.inf):
    """Comparisons of `compare_arms`, as far as a margin needs them."""
    return [
        {
            "a": f"arm {i}",
            "b": "first",
            "metrics": {
                metric: {
                    "value": value,
                    "se": error,
                    "another_training": {"se": error, "df": df},
                }
            },
        }
        for i, (value, error) in enumerate(zip(values, errors, strict=True))
    ]


@pytest.mark.parametrize("shift", [-0.05, 0.0, 0.02])
def test_p_values_are_those_of_two_one_sided_t_tests(shift):
    random = np.random.default_rng(0)
    a, b = random.normal(shift, 0.1, 60), random.normal(0, 0.1, 60)
    differences = a - b
    error = differences.std(ddof=1) / 60**0.5
    compared = pairs([differences.mean()], [error], df=59)
    (found,) = margin_tests(compared, "auroc", 0.06)["comparisons"]
    both, above, _ = ttost_paired(a, b, -0.06, 0.06)
    again = found["another_training"]
    assert again["p_equivalent"] == pytest.approx(both)
    assert again["p_noninferior"] == pytest.approx(above[1])
    # With no degrees of freedom named it is normal.
    z = (differences.mean() + 0.06) / error
    assert found["p_noninferior"] == pytest.approx(norm.sf(z))
    assert found["noninferior"] == (found["ci_low"] > -0.06)
    inside = found["ci_low"] > -0.06 and found["ci_high"] < 0.06
    assert found["equivalent"] == inside


def test_of_a_loss_lower_is_better():
    compared = pairs([0.05, -0.05], [0.01, 0.01], metric="brier")
    worse, better = margin_tests(compared, "brier", 0.02)["comparisons"]
    assert (worse["value"], worse["noninferior"]) == (-0.05, False)
    assert (better["value"], better["noninferior"]) == (0.05, True)
    assert not better["equivalent"]


def test_several_comparisons_are_adjusted():
    compared = pairs([0.0, 0.0, -0.1], [0.0095, 0.0095, 0.01])
    first, second, third = margin_tests(compared, "auroc", 0.02)["comparisons"]
    assert first["p_noninferior"] == second["p_noninferior"] < 0.025
    assert first["p_noninferior_holm"] == pytest.approx(3 * first["p_noninferior"])
    assert not first["noninferior"]
    assert third["p_noninferior_holm"] == pytest.approx(1, abs=1e-9)


def test_undefined_has_a_reason():
    compared = pairs([None, 0.0], [None, 0.0])
    compared[0]["metrics"]["auroc"]["reason"] = "one class only"
    none, same = margin_tests(compared, "auroc", 0.02)["comparisons"]
    assert none["reason"] == "one class only"
    assert same["reason"] == "no variance to test with"
    assert none["noninferior"] is none["p_equivalent_holm"] is None


def arms_of(draw):
    first = draw("binary", classes=2, decimals=None)
    other = draw("binary", classes=2, decimals=None, seed=3)
    object.__setattr__(other, "labels", first.labels)
    return {
        name: [apply_thresholds(one, calibrated=one.probs**0.5)]
        for name, one in (("first", first), ("other", other))
    }


def test_margin_of_compared_arms_uses_delongs_error(draw):
    found = compare_arms(arms_of(draw), margin=0.1, resamples=9)
    (tested,) = found["margin"]["comparisons"]
    (one,) = found["comparisons"]
    assert (tested["a"], tested["b"]) == ("other", "first")
    ends = one["metrics"]["auroc"]["delong"]
    assert tested["ci_low"] == pytest.approx(ends["ci_low"])
    assert tested["another_training"]["reason"] == "one seed only"


def test_net_benefits_differ_as_decision_curves_do(draw):
    arms = arms_of(draw)
    found = compare_arms(arms, thresholds=[0.2, 0.6], resamples=300, seed=4)
    # More resamples than asked for, where comparisons need them.
    resamples = found["intervals"]["resamples"]
    benefit = found["comparisons"][0]["net_benefit"]
    assert benefit["thresholds"] == [0.2, 0.6]
    curves = {
        name: decision_curve(
            one.predictions, probs=one.calibrated, thresholds=(0.2, 0.6), resamples=1
        )["model"]
        for name, (one,) in arms.items()
    }
    test = arms["first"][0].predictions
    bootstrap = Bootstrap(resamples=resamples, seed=4)
    counts = np.concatenate([*bootstrap.counts(units_of(test))], axis=1)
    for i, threshold in enumerate((0.2, 0.6)):
        value = curves["other"][i]["value"] - curves["first"][i]["value"]
        assert benefit["differences"][i]["value"] == pytest.approx(value)
        gains = []
        for name in ("other", "first"):
            acted = arms[name][0].calibrated[:, 1] >= threshold
            odds = threshold / (1 - threshold)
            gains.append(acted * np.where(test.labels == 1, 1, -odds))
        samples = (gains[0] - gains[1]) @ counts / 200
        ends = [benefit["differences"][i][end] for end in ("ci_low", "ci_high")]
        assert ends == pytest.approx(np.quantile(samples, [0.025, 0.975]))


def test_refused(draw):
    arms = arms_of(draw)
    with pytest.raises(InputError, match="must be above 0 and below 1, got 0"):
        compare_arms(arms, margin=0.0)
    with pytest.raises(InputError, match="Unknown metric of a margin 'auc'"):
        compare_arms(arms, margin=0.1, margin_metric="auc")
    with pytest.raises(InputError, match=r"must be in \(0, 1\), got 1"):
        compare_arms(arms, thresholds=[1])
