"""Unpaired differences, against published intervals."""

import numpy as np
import pytest

from jaxmed.evaluation.external.unpaired import (
    unpaired_difference,
    unpaired_differences,
)
from jaxmed.evaluation.intervals.proportions import wilson


def proportion(hits, trials):
    low, high = wilson(np.array([hits]), np.array([trials]))
    ends = {"ci_low": float(low[0]), "ci_high": float(high[0])}
    return {"value": hits / trials} | ends


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 1998 (17), table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_of_proportions_it_is_newcombes_method_10(a, b, low, high):
    difference = unpaired_difference(proportion(*a), proportion(*b))
    assert difference["value"] == pytest.approx(a[0] / a[1] - b[0] / b[1])
    ends = difference["ci_low"], difference["ci_high"]
    assert ends == pytest.approx((low, high), abs=5e-5)


def test_it_covers_where_its_parts_do():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        a, b = rng.binomial(60, 0.8), rng.binomial(200, 0.9)
        found = unpaired_difference(proportion(a, 60), proportion(b, 200))
        inside += found["ci_low"] <= -0.1 <= found["ci_high"]
    # Three standard errors of 1,000 draws.
    assert 0.93 < inside / 1000 < 0.975


def test_what_has_no_value_or_no_interval_has_a_reason():
    whole = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    empty = {"value": None, "ci_low": None, "ci_high": None, "reason": "one class"}
    assert unpaired_difference(whole, empty)["reason"] == "one class"
    bare = {"value": 0.3, "ci_low": None, "ci_high": None, "reason": "few"}
    found = unpaired_difference(bare, whole)
    assert found["value"] == pytest.approx(-0.2)
    assert (found["ci_low"], found["reason"]) == (None, "few")


def test_trees_share_what_both_have_but_no_counts():
    one = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    a = {"n": 4, "auroc": one, "a": {"f1": one, "tp": one}, "only": one, "b": {"x": 1}}
    b = {"n": 5, "auroc": one, "a": {"f1": one, "tp": one}, "b": {"x": 2}}
    found = unpaired_differences(a, b)
    assert set(found) == {"auroc", "a"}
    assert set(found["a"]) == {"f1"}
