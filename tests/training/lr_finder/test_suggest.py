"""Suggestions from curves whose answer is known."""

from itertools import combinations

import numpy as np
import pytest
from scipy.signal import lfilter

from jaxmed.training.lr_finder.suggest import falls, smooth, steepest, valley

RATES = np.geomspace(1e-7, 1, 100)


def logistic(center, width=3.0):
    """A loss that falls from 2 to 1, fastest at the step `center`."""
    return 2 - 1 / (1 + np.exp((center - np.arange(100)) / width))


@pytest.mark.parametrize(("steps", "memory"), [(100, 0.9), (20, 0.5), (2000, 0.98)])
def test_smoothing_is_a_filter_with_bias_correction(steps, memory):
    losses = np.random.default_rng(0).random(min(steps, 100))
    filtered = lfilter([1 - memory], [1, -memory], losses)
    corrected = filtered / (1 - memory ** np.arange(1, len(losses) + 1))
    np.testing.assert_allclose(smooth(losses, steps), corrected, rtol=1e-12)


def test_a_constant_loss_is_smoothed_to_itself():
    np.testing.assert_allclose(smooth([1.5] * 30, 100), 1.5)


@pytest.mark.parametrize("center", [20, 50, 80])
def test_steepest_is_where_the_loss_falls_fastest(center):
    assert steepest(RATES, logistic(center)) == RATES[center]


def test_a_faster_fall_after_the_loss_diverged_does_not_count():
    losses = logistic(40)
    losses[60:] = 9 - 0.05 * np.arange(40)
    losses[80:] -= 4
    assert np.diff(losses).argmin() == 79
    assert steepest(RATES, losses) == RATES[40]


def test_valley_is_two_thirds_along_the_fall():
    # One 5, then thirty lower ones: the 20th of the 30 steps down ends at 10 + 19.
    losses = np.full(100, 5.0)
    losses[10:40] -= 0.1 * np.arange(1, 31)
    losses[40:] = np.linspace(3, 50, 60)
    assert valley(RATES, losses) == RATES[29]
    # A bump does not end the fall; of the 29 steps down that it leaves, the 20th.
    losses[15] = 8
    assert valley(RATES, losses) == RATES[30]


def test_valley_is_in_a_longest_falling_subsequence():
    """Against all subsequences of short curves."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        losses = rng.integers(0, 6, 8).astype(float)
        falling = [
            chosen
            for count in range(2, 9)
            for chosen in combinations(range(8), count)
            if (np.diff(losses[list(chosen)]) < 0).all()
        ]
        longest = max(map(len, falling), default=0)
        places = {
            chosen[longest - 1 - (longest - 1) // 3]
            for chosen in falling
            if len(chosen) == longest
        }
        found = valley(RATES[:8], losses)
        assert found in {RATES[place] for place in places} or not (places or found)


def test_a_loss_that_only_rises_has_no_suggestion():
    rising = np.linspace(1, 2, 100)
    assert steepest(RATES, rising) is None
    assert valley(RATES, rising) is None
    assert not falls(rising, smooth(rising, 100), 100)


@pytest.mark.parametrize("steps", [20, 100, 1000])
def test_noise_is_no_fall_and_a_fall_in_noise_is_one(steps):
    noise = 0.1 * np.random.default_rng(0).standard_normal((50, steps))
    seen = slice(steps // 10, None)

    def share(curve):
        curves = [(curve + one, smooth(curve + one, steps)) for one in noise]
        found = [falls(losses[seen], low[seen], steps) for losses, low in curves]
        return np.mean(found)

    assert share(np.full(steps, 2.0)) <= 0.2
    assert share(np.linspace(2, 0, steps)) == 1
