"""Arms over seeds, and the gap between two arms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from sklearn.metrics import accuracy_score, roc_auc_score

from jaxmed.errors import InputError
from jaxmed.evaluation import arm_summary, paired_difference
from jaxmed.evaluation.alignment import judge
from jaxmed.evaluation.comparison import Paired
from jaxmed.evaluation.delong import auroc_covariance
from jaxmed.evaluation.resampling import Bootstrap, Units


@pytest.fixture(scope="module")
def arms(draw):
    """Two arms of 3 and 2 seeds on the same images; the second knows nothing."""
    first = draw("binary", classes=2, n=150, seed=0)
    random = np.random.default_rng(5)

    def seed(noise):
        positive = first.probs[:, 1] + noise * random.normal(size=150)
        positive = np.clip(positive, 0, 1).round(3)
        return replace(first, probs=np.stack([1 - positive, positive], axis=1))

    return [seed(0.1) for _ in range(3)], [seed(5) for _ in range(2)]


def score(runs, metric, rows=slice(None)):
    if metric == "auroc":
        scores = [roc_auc_score(r.labels[rows], r.probs[rows, 1]) for r in runs]
    else:
        scores = [
            accuracy_score(r.labels[rows], r.probs[rows].argmax(axis=1)) for r in runs
        ]
    return np.mean(scores)


@pytest.mark.parametrize("metric", ["auroc", "accuracy"])
def test_gap_and_interval(arms, metric):
    a, b = arms
    result = paired_difference(a, b, metric, resamples=40, seed=3)
    expected = score(a, metric) - score(b, metric)
    assert result["value"] == pytest.approx(expected, abs=1e-12)
    (counts,) = Bootstrap(resamples=40, seed=3).counts(Units(len(a[0].labels)))
    gaps = []
    for column in counts.T:
        rows = np.repeat(np.arange(150), column.astype(int))
        gaps.append(score(a, metric, rows) - score(b, metric, rows))
    low, high = np.percentile(gaps, [2.5, 97.5])
    assert result["ci_low"] == pytest.approx(low, abs=1e-12)
    assert result["ci_high"] == pytest.approx(high, abs=1e-12)
    assert 0 < low < high


def test_an_arm_does_not_differ_from_itself(arms):
    result = paired_difference(arms[0], arms[0], resamples=20)
    none = {"ci_low": 0.0, "ci_high": 0.0}
    tested = {"p": 1.0, "test": "delong", "delong": none}
    assert result == {"value": 0.0} | none | tested


def test_exchanged_arms_change_the_sign(arms):
    a, b = arms
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there["value"] == -back["value"]
    assert there["ci_low"] == pytest.approx(-back["ci_high"], abs=1e-12)


def test_the_order_of_images_does_not_matter(arms):
    a, b = arms
    order = np.random.default_rng(0).permutation(150)
    moved = [
        replace(
            run,
            ids=tuple(run.ids[i] for i in order),
            labels=run.labels[order],
            probs=run.probs[order],
        )
        for run in b
    ]
    assert paired_difference(a, moved) == paired_difference(a, b)


def test_summary(arms):
    result = arm_summary(arms[0], "auroc", resamples=50)
    scores = [score([run], "auroc") for run in arms[0]]
    assert result["value"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert result["std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-12)
    assert result["min"] == pytest.approx(min(scores), abs=1e-12)
    assert result["max"] == pytest.approx(max(scores), abs=1e-12)
    assert result["seeds"] == 3
    assert result["ci_low"] < result["value"] < result["ci_high"]
    single = arm_summary(arms[0][:1], "auroc", resamples=50)
    assert single["std"] is None
    assert single["min"] == single["max"] == single["value"]


def test_undefined(arms):
    one = [replace(run, labels=np.ones(150, int)) for run in arms[0]]
    result = paired_difference(one, one, "auroc", resamples=5)
    assert result["value"] is None
    assert result["reason"] == "one class only"
    summary = arm_summary(one, "auroc", resamples=5)
    assert summary["value"] is None
    assert summary["seeds"] == 3


def test_refused(arms, draw):
    a, b = arms
    with pytest.raises(InputError, match="Did you mean 'auroc'"):
        paired_difference(a, b, "aurock")
    with pytest.raises(InputError, match="no predictions"):
        paired_difference(a, [])
    few = draw("binary", classes=2, n=149)
    with pytest.raises(InputError, match=r"different images\. 1 ids .* 'test/000149'"):
        paired_difference(a, [few])
    with pytest.raises(InputError, match="labels of the image 'test/000000' differ"):
        paired_difference(a, [replace(b[0], labels=1 - b[0].labels)])
    with pytest.raises(InputError, match="differ in class_names"):
        paired_difference(a, [replace(b[0], class_names=("x", "y"))])
    with pytest.raises(InputError, match="differ in split"):
        paired_difference(a, [replace(b[0], split="val")])


def test_which_test_is_used(arms, draw):
    a, b = arms
    assert paired_difference(a, b)["test"] == "delong"
    assert paired_difference(a, b, "accuracy")["test"] == "bootstrap"
    one = paired_difference(a[:1], b[:1], "accuracy")
    right = [run.probs.argmax(axis=1) == run.labels for run in (a[0], b[0])]
    assert one["test"].startswith("mcnemar")
    assert one["only_a"] == (right[0] & ~right[1]).sum()
    assert one["only_b"] == (right[1] & ~right[0]).sum()
    several = [draw("multiclass", seed=seed) for seed in (1, 1)]
    assert paired_difference(several[:1], several[1:])["test"] == "bootstrap"


def test_with_patients_only_the_bootstrap_is_used_and_it_draws_them(arms):
    a, b = arms[0][0], arms[1][0]
    copies = np.repeat(np.arange(150), 4)

    def four_each(run):
        ids = tuple(f"{i}" for i in range(600))
        groups = tuple(f"patient {i}" for i in copies)
        labels, probs = run.labels[copies], run.probs[copies]
        return replace(run, ids=ids, labels=labels, probs=probs, groups=groups)

    for metric in ("auroc", "accuracy"):
        once = paired_difference([a], [b], metric, resamples=400)
        many = paired_difference([four_each(a)], [four_each(b)], metric, resamples=400)
        assert many["test"] == "bootstrap"
        assert many["value"] == pytest.approx(once["value"])
        width = once["ci_high"] - once["ci_low"]
        # As wide as with each image once, and not half as wide as 4 times as many.
        assert many["ci_high"] - many["ci_low"] == pytest.approx(width, rel=0.15)


def test_delong_is_that_of_the_mean_over_seeds(arms):
    a, b = arms
    scores = np.stack([run.probs[:, 1] for run in (*a, *b)])
    weights = np.array([1, 1, 1, -1.5, -1.5]) / 3
    auroc, covariance = auroc_covariance(a[0].labels == 1, scores)
    error = np.sqrt(weights @ covariance @ weights)
    found = paired_difference(a, b)
    assert found["value"] == pytest.approx(weights @ auroc)
    z = found["value"] / error
    assert found["p"] == pytest.approx(2 * norm.sf(abs(z)))
    ends = found["delong"]["ci_low"], found["delong"]["ci_high"]
    assert ends == pytest.approx(found["value"] + norm.ppf([0.025, 0.975]) * error)


def test_decisions_at_each_runs_own_threshold(arms):
    a, b = arms[0][0], arms[1][0]
    judged = {"a": [judge(a, {"class 1": 0.3})], "b": [judge(b, {"class 1": 0.7})]}
    paired = Paired(judged, [("accuracy",)], Bootstrap(resamples=10))
    for name, run, threshold in (("a", a, 0.3), ("b", b, 0.7)):
        decided = run.probs[:, 1] >= threshold
        expected = accuracy_score(run.labels, decided)
        assert paired.summary(name, ("accuracy",))["value"] == expected


def test_over_seeds_is_welchs_test(arms):
    a, b = ([judge(run) for run in arm] for arm in arms)
    paired = Paired({"a": a, "b": b}, [("auroc",)], Bootstrap(resamples=10))
    found = paired.over_seeds("a", "b", ("auroc",))
    values = [[score([run], "auroc") for run in arm] for arm in arms]
    expected = ttest_ind(*values, equal_var=False)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["ci_low"] == pytest.approx(expected.confidence_interval().low)
    assert found["value"] == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    assert found["seeds"] == [3, 2]
