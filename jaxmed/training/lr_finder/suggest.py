"""Learning rates read off the curve of a range test: functions of arrays alone."""

import math
from collections.abc import Sequence

import numpy as np

# fastai's, for tests of so many steps that it looks back on few of them.
MEMORY = 0.98
# Standard deviations; of so many values some are two or three from their mean.
FALL = 4


def smooth(losses: Sequence[float] | np.ndarray, steps: int) -> np.ndarray:
    """Averages losses exponentially, with a bias correction as Adam's.

    The average looks back on about a tenth of the test, or 50 steps, fastai's number,
    where that is fewer: on fastai's usual 100 steps 50 would put it three decades of
    rates behind, and it would still fall when the loss has long diverged.

    Args:
        losses: (n,), of the steps so far.
        steps: of the whole test, at least 10.

    Returns:
        float64 (n,).
    """
    memory = _memory(steps)
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = memory * average + (1 - memory) * loss
        smoothed.append(average / (1 - memory**count))
    return np.array(smoothed)


def falls(losses: np.ndarray, smoothed: np.ndarray, steps: int) -> bool:
    """Tells whether a loss falls by more than chance, which differs by batch.

    That is by more than four standard deviations of the smoothed loss, which are
    those of the loss times the root of (1 - m) / (1 + m) where m is the memory.

    Args:
        losses: float (n,), by step.
        smoothed: float (n,), the same smoothed.
        steps: as of `smooth`.
    """
    lowest, memory = int(smoothed.argmin()), _memory(steps)
    if lowest < 2:
        return False
    # Of independent values the difference has twice the variance.
    spread = np.diff(losses[: lowest + 1]).std() / math.sqrt(2)
    chance = FALL * spread * math.sqrt((1 - memory) / (1 + memory))
    return bool(smoothed[0] - smoothed[lowest] > chance)


def steepest(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Returns the rate at which the loss falls fastest over the logarithm of the rate.

    Only what comes before the lowest loss counts: a loss that has diverged may fall
    again, and faster.

    Args:
        rates: float (n,), rising.
        losses: float (n,), smoothed.

    Returns:
        None if the first loss is the lowest.
    """
    lowest = int(losses.argmin())
    if lowest == 0:
        return None
    slopes = np.gradient(losses, np.log(rates))
    return float(rates[slopes[: lowest + 1].argmin()])


def valley(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Returns the rate two thirds along the longest fall of the loss.

    The fall is the longest strictly decreasing subsequence, which little bumps do not
    end. After fastai's `valley`, which comes from ESRI; it is described by these two
    thirds, but its code takes about the middle, which is a lower rate.

    Args:
        rates: float (n,), rising.
        losses: float (n,), smoothed.

    Returns:
        None if no loss is below an earlier one.
    """
    lengths = np.ones(len(losses), int)
    previous = np.full(len(losses), -1)
    for now in range(1, len(losses)):
        higher = np.flatnonzero(losses[:now] > losses[now])
        if len(higher):
            previous[now] = higher[lengths[higher].argmax()]
            lengths[now] = lengths[previous[now]] + 1
    fall = [int(lengths.argmax())]
    while previous[fall[-1]] >= 0:
        fall.append(int(previous[fall[-1]]))
    if len(fall) == 1:
        return None
    # From the last point back to the first.
    return float(rates[fall[(len(fall) - 1) // 3]])


def _memory(steps: int) -> float:
    """Returns the weight of what was before in the average of each step."""
    return min(MEMORY, 1 - 10 / steps)
