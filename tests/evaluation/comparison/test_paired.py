"""Arms over seeds, and the gap between two arms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, roc_auc_score

from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions, arm_summary, paired_difference
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.evaluation.comparison.paired import Paired
from jaxmed.evaluation.intervals.auc import auroc_covariance
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.significance import another_training, mcnemar


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
    (counts,) = Bootstrap(resamples=40, seed=3).counts(units_of(a[0]))
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
    tested = {"se": 0.0, "p": 1.0, "test": "delong", "delong": none}
    again = result.pop("another_training")
    assert result == {"value": 0.0} | none | tested
    # Trained again, it may.
    assert again["ci_low"] == -again["ci_high"] < 0
    assert again["p"] == 1


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


def test_with_patients_tests_are_of_them(arms):
    a, b = arms[0][0], arms[1][0]
    copies = np.repeat(np.arange(150), 4)

    def four_each(run):
        ids = tuple(f"{i}" for i in range(600))
        groups = tuple(f"patient {i}" for i in copies)
        labels, probs = run.labels[copies], run.probs[copies]
        return replace(run, ids=ids, labels=labels, probs=probs, groups=groups)

    tests = {"auroc": "delong_clustered", "accuracy": "bootstrap"}
    for metric, test in tests.items():
        once = paired_difference([a], [b], metric, resamples=400)
        many = paired_difference([four_each(a)], [four_each(b)], metric, resamples=400)
        assert many["test"] == test
        assert many["value"] == pytest.approx(once["value"])
        width = once["ci_high"] - once["ci_low"]
        # As wide as with each image once, and not half as wide as 4 times as many.
        assert many["ci_high"] - many["ci_low"] == pytest.approx(width, rel=0.15)
        if metric == "auroc":
            assert many["p"] == pytest.approx(once["p"])


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
    scored = {
        "a": [apply_thresholds(a, {"class 1": 0.3})],
        "b": [apply_thresholds(b, {"class 1": 0.7})],
    }
    paired = Paired(scored, [("accuracy",)], Bootstrap(resamples=10))
    for name, run, threshold in (("a", a, 0.3), ("b", b, 0.7)):
        decided = run.probs[:, 1] >= threshold
        expected = accuracy_score(run.labels, decided)
        assert paired.summary(name, ("accuracy",))["value"] == expected


def test_another_training_adds_the_variances_of_images_and_seeds(arms):
    a, b = arms
    found = paired_difference(a, b, resamples=200, seed=1)
    values = [[score([run], "auroc") for run in arm] for arm in arms]
    # The resamples of the difference, drawn as the intervals over images are.
    scored = {
        "a": [apply_thresholds(run) for run in a],
        "b": [apply_thresholds(run) for run in b],
    }
    paired = Paired(scored, [("auroc",)], Bootstrap(resamples=200, seed=1))
    counts = np.concatenate(
        [*Bootstrap(resamples=200, seed=1).counts(paired.units)], axis=1
    )
    gaps = []
    for column in counts.T:
        rows = np.repeat(np.arange(150), column.astype(int))
        gaps.append(score(a, "auroc", rows) - score(b, "auroc", rows))
    parts = [np.var(gaps, ddof=1), *(np.var(v, ddof=1) / len(v) for v in values)]
    df = sum(parts) ** 2 / (parts[0] ** 2 / 149 + parts[1] ** 2 / 2 + parts[2] ** 2)
    law = student(df, loc=found["value"], scale=np.sqrt(sum(parts)))
    again = found["another_training"]
    assert again["df"] == pytest.approx(df)
    assert again["ci_low"] == pytest.approx(law.ppf(0.025))
    assert again["ci_high"] == pytest.approx(min(law.ppf(0.975), 1))
    assert again["p"] == pytest.approx(2 * law.cdf(0))


def test_without_images_that_vary_it_is_welchs_test():
    a, b = np.array([0.91, 0.93, 0.90]), np.array([0.88, 0.80])
    found = another_training(a.mean() - b.mean(), 0.0, 1000, (a, b), (-1, 1))
    expected = ttest_ind(a, b, equal_var=False)
    assert found["df"] == pytest.approx(expected.df)
    assert found["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((low, high))


def test_what_was_trained_once_says_so(arms):
    a, b = arms
    found = paired_difference(a, b[:1], resamples=20)["another_training"]
    assert found["reason"] == "one seed only"
    assert found["ci_low"] is found["ci_high"] is found["p"] is None
    assert arm_summary(b[:1], resamples=20)["another_training"]["ci_low"] is None


def test_seeds_that_are_always_right_have_no_interval_of_width_zero():
    labels = np.arange(40) % 2
    sure = Predictions(
        split="test",
        ids=tuple(map(str, range(40))),
        labels=labels,
        probs=np.eye(2)[labels],
        class_names=("a", "b"),
        task="binary",
    )
    for metric in ("auroc", "accuracy"):
        found = arm_summary([sure, sure], metric, resamples=50)
        assert found["value"] == 1
        assert found["ci_low"] is found["ci_high"] is None
        assert "every resample" in found["reason"]
        assert found["another_training"]["ci_low"] is None


def test_sensitivity_and_specificity_are_tested_by_mcnemar(arms):
    a, b = arms[0][0], arms[1][0]
    scored = {
        "a": [apply_thresholds(a, {"class 1": 0.3})],
        "b": [apply_thresholds(b, {"class 1": 0.7})],
    }
    for metric, of in (("recall", 1), ("specificity", 0)):
        key = ("per_class", "class 1", metric)
        paired = Paired(scored, [key], Bootstrap(resamples=10))
        rows = a.labels == of
        right = [(run.probs[rows, 1] >= at) == of for run, at in ((a, 0.3), (b, 0.7))]
        expected = mcnemar(*right)
        found = paired.difference("a", "b", key)
        assert {k: found[k] for k in expected} == expected
        shares = [one.mean() for one in right]
        assert found["value"] == pytest.approx(shares[0] - shares[1])
