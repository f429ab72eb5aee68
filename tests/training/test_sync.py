"""When a training synchronizes with its devices, and what it reads there."""

import jax.numpy as jnp
import pytest

from jaxmed.runtime import distributed
from jaxmed.training import sync
from jaxmed.training.state import TrainState, zero_totals
from jaxmed.training.sync import (
    INTERVAL,
    Diverged,
    SyncInterval,
    check_finite,
    running_averages,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(sync.time, "monotonic", lambda: now[0])
    return now


def test_one_process_goes_by_its_clock(clock):
    interval = SyncInterval()
    assert not interval.is_due()
    clock[0] += INTERVAL * 1.01
    assert interval.is_due()
    assert not interval.is_due()


def test_several_processes_go_by_the_slowest_ones_clock(clock, monkeypatch):
    """They synchronize after 1, 2, 4 and 5 steps more, of 0.1 s on the slowest."""
    monkeypatch.setattr(distributed, "is_multiprocess", lambda: True)
    steps = [0]

    def all_gather(numbers):
        slowest = int(1000 * 0.1 * steps[0])
        steps[0] = 0
        return jnp.asarray([numbers, [slowest, 0]])

    monkeypatch.setattr(distributed, "all_gather", all_gather)
    interval, due = SyncInterval(), []
    for step in range(1, 18):
        steps[0] += 1
        if interval.is_due():
            due.append(step)
    assert due == [1, 3, 7, 12, 17]


def state_of(params=1.0, step=4, **totals):
    return TrainState(
        params={"head.out.bias": jnp.full(3, params)},
        stats={},
        optimizer=(),
        step=jnp.int32(step),
        totals=zero_totals() | {k: jnp.asarray(v) for k, v in totals.items()},
        average={},
    )


def test_averages_are_of_the_sums():
    state = state_of(loss=3.0, weight=4.0, hits=3.0, images=8.0)
    assert running_averages(state) == {"train_loss": 0.75, "train_accuracy": 0.375}


def test_without_a_known_label_they_are_not_defined():
    averages = running_averages(state_of())
    assert all(value != value for value in averages.values())


def test_the_first_step_that_diverged_is_named():
    check_finite(state_of())
    with pytest.raises(Diverged) as raised:
        running_averages(state_of(diverged=jnp.int32(2)))
    assert raised.value.step == 2
    # Weights that overflowed in the last step.
    with pytest.raises(Diverged) as raised:
        check_finite(state_of(params=float("inf"), step=4))
    assert raised.value.step == 3
