"""The bootstrap: how it draws, and that its intervals hold what they promise."""

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation import intervals
from jaxmed.evaluation.intervals import Bootstrap, Undefined, as_estimate, estimate
from jaxmed.evaluation.metrics import Decisions
from jaxmed.evaluation.predictions import Predictions

STRATA = np.array([2, 0, 0, 1, 2, 2, 0, 2, 2, 2])


def all_counts(bootstrap, strata=STRATA):
    return np.concatenate(list(bootstrap.counts(strata)), axis=1)


def test_draws_are_stratified_and_of_the_right_size():
    counts = all_counts(Bootstrap(resamples=300))
    assert counts.shape == (10, 300)
    for stratum, size in ((0, 3), (1, 1), (2, 6)):
        assert (counts[stratum == STRATA].sum(axis=0) == size).all()


def test_every_image_is_drawn_as_often_as_it_should_be():
    counts = all_counts(Bootstrap(resamples=20_000), np.zeros(10, int))
    # Binomial(10, 1/10): mean 1, variance 0.9; 5 standard errors.
    assert np.abs(counts.mean(axis=1) - 1).max() < 5 * np.sqrt(0.9 / 20_000)
    assert counts.var(axis=1) == pytest.approx(np.full(10, 0.9), rel=0.05)


def test_chunks_do_not_change_the_draw(monkeypatch):
    whole = all_counts(Bootstrap(resamples=100, seed=5))
    monkeypatch.setattr(intervals, "LARGEST", 70)
    chunks = list(Bootstrap(resamples=100, seed=5).counts(STRATA))
    assert len(chunks) == 15
    assert (np.concatenate(chunks, axis=1) == whole).all()


def test_the_seed_decides():
    a, b = (all_counts(Bootstrap(resamples=50, seed=seed)) for seed in (0, 1))
    assert (a == all_counts(Bootstrap(resamples=50, seed=0))).all()
    assert (a != b).any()


def test_interval_is_numpys_percentiles():
    samples = np.random.default_rng(0).normal(size=999)
    result = as_estimate(0.5, np.append(samples, np.nan))
    low, high = np.percentile(samples, [2.5, 97.5])
    assert result == {"value": 0.5, "ci_low": low, "ci_high": high}


def test_undefined_values_and_intervals():
    none = {"value": None, "ci_low": None, "ci_high": None}
    nan = np.full(3, np.nan)
    assert as_estimate(Undefined("why"), nan) == none | {"reason": "why"}
    interval = {"ci_low": None, "ci_high": None}
    expected = {"value": 1.0, "reason": "in no resample"} | interval
    assert as_estimate(1.0, nan) == expected


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"seed": -1}])
def test_refused(wrong):
    with pytest.raises(InputError, match="must be at least"):
        Bootstrap(**wrong)


def test_intervals_of_accuracy_cover_the_truth():
    """Draws 500 test sets of 200 images from a model that is right with 0.85.

    The 95 % percentile interval of a binomial proportion of this size covers in
    about 94 % of the cases; 500 cases have a standard error of 1 %.
    """
    random = np.random.default_rng(11)
    labels = np.arange(200) % 2
    covered = 0
    for case in range(500):
        right = random.random(200) < 0.85
        chosen = np.where(right, labels, 1 - labels)
        predictions = Predictions(
            split="test",
            ids=tuple(map(str, range(200))),
            labels=labels,
            probs=np.eye(2)[chosen],
            class_names=("a", "b"),
            task="binary",
        )
        bootstrap = Bootstrap(resamples=400, seed=case)
        result = estimate([Decisions(predictions)], labels, bootstrap)[("accuracy",)]
        covered += result["ci_low"] <= 0.85 <= result["ci_high"]
    assert 0.91 <= covered / 500 <= 0.97
