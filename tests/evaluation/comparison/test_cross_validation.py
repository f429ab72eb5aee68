"""Cross-validation: the corrected t, pooled predictions, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from jaxmed.errors import InputError
from jaxmed.evaluation import paired_difference
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.comparison.cross_validation import (
    FoldRun,
    corrected_t,
    cross_validate,
    pool_folds,
)


def fold_runs(draw, noise, seed=0, repeats=1, n=150, folds=5, groups=False):
    """An arm's runs: the same images in the same folds, scored with noise."""
    whole = draw("binary", classes=2, decimals=None, n=n)
    if groups:
        whole = replace(whole, groups=tuple(str(i // 3) for i in range(n)))
    rng = np.random.default_rng([seed, 17])
    runs = []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(n // 3)
        rows = (3 * order[:, None] + np.arange(3)).ravel()
        for fold, of in enumerate(np.array_split(rows, folds)):
            part = whole.take(of)
            p = part.probs[:, 1] + noise * rng.normal(size=len(of))
            p = np.clip(p, 0.001, 0.999)
            scored = apply_thresholds(
                replace(part, probs=np.stack([1 - p, p], axis=1)),
                {"class 1": 0.3 + 0.1 * fold},
                name=f"fold-{fold}/seed-{seed}",
            )
            runs.append(
                FoldRun(
                    repeat=repeat,
                    fold=fold,
                    seed=seed,
                    scored=scored,
                    trained_on=90,
                )
            )
    return runs


def test_corrected_t_is_nadeau_and_bengios():
    values = np.array([0.03, 0.01, -0.02, 0.04, 0.02, 0.05])
    found = corrected_t(values.tolist(), 30 / 120, (-1.0, 1.0))
    mean = sum(values) / 6
    s2 = sum((v - mean) ** 2 for v in values) / 5
    error = ((1 / 6 + 30 / 120) * s2) ** 0.5
    assert found["se"] == pytest.approx(error)
    assert found["p"] == pytest.approx(2 * t.sf(mean / error, 5))
    half = t.ppf(0.975, 5) * error
    ends = found["ci_low"], found["ci_high"]
    assert ends == pytest.approx((mean - half, mean + half))
    assert corrected_t([0.1], 0.25, (0, 1))["reason"] == "one fold only"
    assert corrected_t([0.1, 0.1], 0.25, (0, 1))["reason"] == "alike in every fold"


def values_of(runs, score):
    """Means over seeds, by repeat and fold."""
    by_fold = {}
    for run in runs:
        by_fold.setdefault((run.repeat, run.fold), []).append(score(run.scored))
    return [np.mean(by_fold[which]) for which in sorted(by_fold)]


SCORES = {
    "auroc": lambda one: roc_auc_score(
        one.predictions.labels, one.predictions.probs[:, 1]
    ),
    "accuracy": lambda one: accuracy_score(one.predictions.labels, one.decisions),
}


def test_numbers_over_folds_and_out_of_fold_can_be_recomputed(draw):
    arms = {
        "first": [r for s in (0, 1) for r in fold_runs(draw, 0.4, s, repeats=2)],
        "good": fold_runs(draw, 0.05, 2, repeats=2),
        "other": fold_runs(draw, 0.4, 3, repeats=2),
    }
    result = cross_validate(arms, resamples=50)
    assert (result["folds"], result["repeats"], result["n"]) == (5, 2, 150)
    assert result["test_share"] == pytest.approx(30 / 90)
    for name, runs in arms.items():
        for metric, score in SCORES.items():
            of = result["arms"][name]["metrics"][metric]
            values = values_of(runs, score)
            assert [one["value"] for one in of["folds"]] == pytest.approx(values)
            assert of["value"] == pytest.approx(np.mean(values))
            assert of["sd"] == pytest.approx(np.std(values, ddof=1))
            models = {(r.repeat, r.seed) for r in runs}
            pooled = [
                score(pool_folds([r for r in runs if (r.repeat, r.seed) == model]))
                for model in models
            ]
            assert of["out_of_fold"]["value"] == pytest.approx(np.mean(pooled))
            assert of["ci_low"] < of["value"] < of["ci_high"]
    pairs = result["comparisons"]
    assert [(one["a"], one["b"]) for one in pairs] == [
        ("good", "first"),
        ("other", "first"),
    ]
    aurocs = [one["metrics"]["auroc"] for one in pairs]
    for one, of in zip(pairs, aurocs, strict=True):
        a, b = (values_of(arms[one[side]], SCORES["auroc"]) for side in "ab")
        expected = corrected_t(np.subtract(a, b).tolist(), 1 / 3, (-1.0, 1.0))
        assert of["p"] == pytest.approx(expected["p"])
        assert of["ci_low"] == pytest.approx(expected["ci_low"])
        models = [
            [
                pool_folds([r for r in arms[one[side]] if (r.repeat, r.seed) == which])
                for which in sorted({(r.repeat, r.seed) for r in arms[one[side]]})
            ]
            for side in "ab"
        ]
        paired = paired_difference(
            *([run.predictions for run in side] for side in models), resamples=10
        )
        assert of["out_of_fold"]["p"] == pytest.approx(paired["p"])
        assert "another_training" not in of["out_of_fold"]
    for family in (aurocs, [of["out_of_fold"] for of in aurocs]):
        adjusted = multipletests([one["p"] for one in family], method="holm")[1]
        assert [one["p_holm"] for one in family] == pytest.approx(list(adjusted))
    assert aurocs[0]["out_of_fold"]["p_holm"] < 0.01


def test_patients_are_drawn_out_of_fold(draw):
    arms = {
        name: fold_runs(draw, noise, i, groups=True)
        for i, (name, noise) in enumerate((("a", 0.2), ("b", 0.3)))
    }
    result = cross_validate(arms, resamples=50)
    assert result["groups"] == 50
    (one,) = result["comparisons"]
    assert one["metrics"]["auroc"]["out_of_fold"]["test"] == "delong_clustered"


def test_a_metric_that_a_fold_lacks_has_a_reason(draw):
    runs = fold_runs(draw, 0.1)
    runs[3].scored.predictions.labels[:] = 0
    of = cross_validate({"a": runs}, resamples=10)["arms"]["a"]["metrics"]["auroc"]
    assert of["value"] is None
    assert of["reason"] == "undefined in fold 3 of repeat 0: one class only"
    assert of["out_of_fold"]["value"] > 0.5


def test_refused(draw):
    runs = fold_runs(draw, 0.1)
    other = fold_runs(draw, 0.1, seed=1)
    with pytest.raises(InputError, match="Arm b, seed 1 has no finished run of fold 4"):
        cross_validate({"a": runs, "b": other[:-1]})
    moved = [replace(other[0], fold=1), replace(other[1], fold=0), *other[2:]]
    with pytest.raises(InputError, match="Fold 1 of repeat 0 has other images"):
        cross_validate({"a": runs, "b": moved})
    with pytest.raises(InputError, match="at least one arm"):
        cross_validate({})


def test_differences_of_equal_arms_are_seldom_called_clear():
    """Estimates that share training images correlate by n_test / (n_test + n_train)."""
    rng, wrong, plain = np.random.default_rng(0), 0, 0
    share, trials, k = 0.25, 2000, 5
    rho = share / (1 + share)
    for _ in range(trials):
        values = rho**0.5 * rng.normal() + (1 - rho) ** 0.5 * rng.normal(size=k)
        wrong += corrected_t(values.tolist(), share, (-np.inf, np.inf))["p"] < 0.05
        error = values.std(ddof=1) / k**0.5
        plain += 2 * t.sf(abs(values.mean()) / error, k - 1) < 0.05
    assert 0.035 <= wrong / trials <= 0.065
    assert plain / trials > 0.12
