"""How often intervals for another training hold the truth, and tests cry wolf.

Images and seeds are drawn anew in every trial, from a recipe whose expected metric is
known: scores are binormal, their distance d varies from training to training, and the
images share a part that no training changes.
"""

import numpy as np
import pytest
from scipy.stats import norm

from jaxmed.evaluation import Predictions, arm_summary, paired_difference

SHARED, OWN = 1.0, 0.5


def draw_labels(random, n, prevalence):
    """Labels with both classes, and each image's shared part."""
    labels = (random.random(n) < prevalence).astype(int)
    labels[:2] = 0, 1
    return labels, SHARED * random.normal(size=n)


def trained(random, labels, shared, distance):
    """The test predictions of one training."""
    n = len(labels)
    scores = distance * labels + shared + OWN * random.normal(size=n)
    positive = 1 / (1 + np.exp(-scores))
    return Predictions(
        split="test",
        ids=tuple(map(str, range(n))),
        labels=labels,
        probs=np.stack([1 - positive, positive], axis=1),
        class_names=("a", "b"),
        task="binary",
    )


def expected_auroc(mean, spread):
    """The AUROC that a recipe reaches on average over trainings."""
    distances = norm.ppf(np.linspace(0.0005, 0.9995, 1000), mean, max(spread, 1e-9))
    return norm.cdf(distances / np.sqrt(2 * (SHARED**2 + OWN**2))).mean()


def coverage(trials, *, n, prevalence, seeds, mean, spread):
    """The shares of intervals for another training, and over images, that cover."""
    truth, held, stated = expected_auroc(mean, spread), np.zeros(2), np.zeros(2)
    for trial in range(trials):
        random = np.random.default_rng([trial, n, seeds])
        labels, shared = draw_labels(random, n, prevalence)
        distances = mean + spread * random.normal(size=seeds)
        arm = [trained(random, labels, shared, d) for d in distances]
        found = arm_summary(arm, resamples=150, seed=trial)
        for i, one in enumerate((found["another_training"], found)):
            # Where all seeds separate the classes, there is none.
            if one["ci_low"] is not None:
                held[i] += one["ci_low"] <= truth <= one["ci_high"]
                stated[i] += 1
    return held / stated


def false_alarms(trials, *, n, prevalence, seeds, mean, spread):
    """How often two arms of one recipe differ at 5 %: another training, images."""
    alarms = np.zeros(2)
    for trial in range(trials):
        random = np.random.default_rng([trial, n, seeds, 1])
        labels, shared = draw_labels(random, n, prevalence)
        arms = [
            [
                trained(random, labels, shared, mean + spread * random.normal())
                for _ in range(seeds)
            ]
            for _ in range(2)
        ]
        found = paired_difference(*arms, resamples=150, seed=trial)
        for i, one in enumerate((found["another_training"], found)):
            alarms[i] += one["p"] is not None and one["p"] <= 0.05
    return alarms / trials


# Distances of 1.75 and 3 are AUROCs of 0.87 and 0.97; their spread over trainings is an
# SD of AUROC of about 0.002, 0.012 and 0.03.
RECIPES = {
    "n": (50, 156, 624),
    "seeds": (2, 3, 5),
    "distance": ((1.75, 0.01), (1.75, 0.08), (1.75, 0.2), (3.0, 0.2)),
}


def test_a_recipe_does_not_differ_from_itself():
    """The kind of the quickstart's arms: three seeds, AUROC's SD 0.012."""
    alarms = false_alarms(100, n=624, prevalence=0.6, seeds=3, mean=1.75, spread=0.08)
    assert alarms[0] <= 0.08
    # What leaves the seeds out cries wolf, so that the trial means something.
    assert alarms[1] > 0.15


def test_intervals_for_another_training_cover():
    held = coverage(150, n=156, prevalence=0.27, seeds=3, mean=1.75, spread=0.2)
    assert held[0] >= 0.91


def test_a_large_difference_is_found_with_few_seeds():
    random = np.random.default_rng(0)
    labels, shared = draw_labels(random, 624, 0.6)
    better, worse = (
        [trained(random, labels, shared, d + 0.08 * random.normal()) for _ in range(3)]
        for d in (2.6, 1.2)
    )
    assert paired_difference(better, worse)["another_training"]["p"] < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n", RECIPES["n"])
@pytest.mark.parametrize("seeds", RECIPES["seeds"])
@pytest.mark.parametrize(("mean", "spread"), RECIPES["distance"])
def test_coverage_and_false_alarms(n, seeds, mean, spread):
    """Measured: coverage 0.905 to 0.985 in 200 trials, false alarms at most 0.055."""
    recipe = {
        "n": n,
        "prevalence": 0.27,
        "seeds": seeds,
        "mean": mean,
        "spread": spread,
    }
    trials = 600
    error = np.sqrt(0.05 * 0.95 / trials)
    # Intervals may be too wide, where few seeds leave nearly everything open.
    assert coverage(trials, **recipe)[0] >= 0.93 - 3 * error
    assert false_alarms(trials, **recipe)[0] <= 0.05 + 3 * error
