"""Intervals hold the population's value as often as docs/evaluation.md says.

The simulation is that of benchmarks/coverage.py, which prints the tables there.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
# What the documentation states less for, at some size.
STATED_LESS = ("ECE", "MCC", "kappa", "log loss")


@pytest.fixture(scope="module")
def coverage():
    return runpy.run_path(str(FILE))


def check(found, tests, lowest=0.93):
    """All cover but for the noise of so many test sets: three standard errors."""
    wrong = {}
    for name, (held, given) in found.items():
        count = given * tests
        noise = 3 * np.sqrt(0.95 * 0.05 / max(count, 1))
        least = 0.86 if name in STATED_LESS else lowest
        if count >= 50 and not least - noise <= held:
            wrong[name] = held
    assert not wrong


def test_a_few_test_sets(coverage):
    situation = coverage["Situation"](156, 0.2)
    check(coverage["simulate"](situation, 100, resamples=200), 100)


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("images", [50, 156, 600])
def test_independent_images(coverage, images, prevalence):
    situation = coverage["Situation"](images, prevalence)
    # LR- of three positives is the one that documentation states less for.
    found = coverage["simulate"](situation, 300)
    if (images, prevalence) == (50, 0.05):
        found.pop("LR-")
    check(found, 300, 0.90 if images == 50 else 0.93)


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("images", [50, 156, 600])
def test_patients_of_several_images(coverage, images, prevalence):
    """Of few patients intervals are rather too wide."""
    situation = coverage["Situation"](images, prevalence, clustered=True)
    found = coverage["simulate"](situation, 300)
    check(found, 300, 0.90 if images < 600 else 0.92)
