"""The largest gap of subgroups, and how often one is found where there is none."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import recall_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from jaxmed.evaluation import Predictions, evaluate
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.subgroups import rows_by_subgroup, subgroup_gaps


def draw(seed, n=400, sites=4, worse=0.0):
    """Predictions of a test split; those of site 0 are noisier."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(int)
    site = random.integers(0, sites, n)
    scores = 1.5 * labels - 0.75 + random.normal(size=n) * (1 + worse * (site == 0))
    positive = 1 / (1 + np.exp(-scores))
    return apply_thresholds(
        Predictions(
            split="test",
            ids=tuple(map(str, range(n))),
            labels=labels,
            probs=np.stack([1 - positive, positive], axis=1),
            class_names=("a", "b"),
            task="binary",
            columns={"site": tuple(f"site {one}" for one in site)},
        )
    )


def gaps(scored, **options):
    groups = rows_by_subgroup(scored.predictions, "site")
    return subgroup_gaps(scored, groups, **options)


def test_the_largest_gap_is_scikit_learns_with_an_interval_for_all():
    scored = draw(0, worse=3)
    test = scored.predictions
    groups = rows_by_subgroup(test, "site")
    found = gaps(scored, resamples=200, seed=3)
    metrics = ["auroc", "auprc", "sensitivity", "specificity", "calibration_gap"]
    assert list(found) == metrics
    scored = {
        "auroc": lambda rows: roc_auc_score(test.labels[rows], test.probs[rows, 1]),
        "sensitivity": lambda rows: recall_score(
            test.labels[rows], test.probs[rows].argmax(axis=1)
        ),
        "calibration_gap": lambda rows: (
            test.probs[rows, 1].mean() - test.labels[rows].mean()
        ),
    }
    bootstrap = Bootstrap(resamples=200, seed=3)
    counts = np.concatenate([*bootstrap.counts(units_of(test))], axis=1).astype(int)
    for metric, score in scored.items():
        values = {name: score(rows) for name, rows in groups.items()}
        gap = found[metric]
        assert gap["groups"] == 4
        assert gap["high"] == max(values, key=values.get)
        assert gap["low"] == min(values, key=values.get)
        assert gap["value"] == pytest.approx(np.ptp([*values.values()]), abs=1e-12)
        drawn = {
            name: [score(np.repeat(rows, column[rows])) for column in counts.T]
            for name, rows in groups.items()
        }
        p, six = [], 6
        for a, b in combinations(groups, 2):
            error = np.std(np.subtract(drawn[a], drawn[b]), ddof=1)
            p.append(six * 2 * norm.sf(abs(values[a] - values[b]) / error))
        assert gap["p"] == pytest.approx(min(1, *p))
        differences = np.subtract(drawn[gap["high"]], drawn[gap["low"]])
        half = norm.ppf(1 - 0.025 / six) * np.std(differences, ddof=1)
        assert gap["ci_low"] == pytest.approx(gap["value"] - half)


def test_a_group_without_a_value_is_left_out():
    scored = draw(1)
    test = scored.predictions
    groups = rows_by_subgroup(test, "site")
    test.labels[groups["site 2"]] = 0
    found = gaps(scored, resamples=50)
    assert found["auroc"]["groups"] == 3
    assert found["specificity"]["groups"] == 4


def test_groups_that_are_alike_are_seldom_called_different():
    found = [gaps(draw(seed), resamples=150) for seed in range(60)]
    for metric in ("auroc", "sensitivity"):
        assert np.mean([one[metric]["p"] <= 0.05 for one in found]) <= 0.1
    found = [gaps(draw(seed, worse=3), resamples=150) for seed in range(15)]
    assert np.mean([one["auroc"]["p"] <= 0.05 for one in found]) >= 0.8


def test_evaluate_has_the_gaps_of_groups_that_are_not_small():
    test = draw(2, worse=3).predictions
    sites = tuple("rare" if i < 20 else s for i, s in enumerate(test.columns["site"]))
    groups = tuple(str(i // 2) for i in range(400))
    test = replace(test, columns={"site": sites}, groups=groups)
    val = replace(test, split="val")
    result = evaluate(val, test, resamples=100)["subgroups"]["site"]
    assert result["values"]["rare"]["small"] == "fewer than 30 patients"
    assert result["values"]["site 1"]["groups"] == len(
        {g for g, site in zip(groups, sites, strict=True) if site == "site 1"}
    )
    gaps = result["gaps"]
    assert "rare" not in {gap[end] for gap in gaps.values() for end in ("high", "low")}
    assert gaps["auroc"]["groups"] == 4
    adjusted = multipletests([gap["p"] for gap in gaps.values()], method="holm")[1]
    assert [gap["p_holm"] for gap in gaps.values()] == pytest.approx(list(adjusted))
    # Probabilities after scaling, fitted on val.
    temperature = evaluate(val, test, resamples=1)["calibration"]["temperature"]
    p = expit(np.diff(np.log(test.probs))[:, 0] / temperature)
    excess = [
        (p - test.labels)[np.array(sites) == name].mean()
        for name in sorted(set(sites) - {"rare"})
    ]
    assert gaps["calibration_gap"]["value"] == pytest.approx(np.ptp(excess))
