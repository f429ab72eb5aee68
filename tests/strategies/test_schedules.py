"""Schedules against torch's schedulers, and how they are given and described."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from jaxmed.errors import InputError
from jaxmed.strategies.schedules import Schedule, as_schedule

RATE = 0.5


def sgd(kind=torch.optim.SGD):
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=RATE)


def rates_of(scheduler, optimizer, count):
    """The rate before each of `count` calls of the scheduler."""
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def factors(schedule, epochs, steps):
    """The schedule's factors, computed as in a compiled step."""
    every = jnp.arange(epochs * steps)
    return jax.jit(lambda s: schedule.factor(s, epochs, steps))(every)


def after_warmup(make, warm, start, count):
    optimizer = sgd()
    warmup = theirs.LinearLR(optimizer, start_factor=start, total_iters=warm)
    both = theirs.SequentialLR(optimizer, [warmup, make(optimizer)], milestones=[warm])
    return rates_of(both, optimizer, count)


def same(ours, expected):
    np.testing.assert_allclose(np.asarray(ours) * RATE, expected, rtol=2e-6)


# Of epochs and steps; with 49 steps, floor(49 * (1 / 49)) is 0 in float32.
LENGTHS = [(1, 1), (1, 5), (2, 1), (3, 49), (10, 7), (30, 41)]


@pytest.mark.parametrize("final", [0.0, 0.25])
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_cosine_is_torchs_by_step_and_by_epoch(epochs, steps, final):
    for by, count in (("step", epochs * steps), ("epoch", epochs)):
        optimizer = sgd()
        cosine = theirs.CosineAnnealingLR(optimizer, count, eta_min=final * RATE)
        expected = rates_of(cosine, optimizer, count)
        if by == "epoch":
            expected = np.repeat(expected, steps)
        ours = factors(Schedule(name="cosine", by=by, final=final), epochs, steps)
        same(ours, expected)


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"name": "constant"}, lambda o, n: theirs.ConstantLR(o, factor=1.0)),
        ({"name": "cosine"}, lambda o, n: theirs.CosineAnnealingLR(o, n)),
        (
            {"name": "step", "every": 2, "gamma": 0.3},
            lambda o, n: theirs.StepLR(o, 2, gamma=0.3),
        ),
        (
            {"name": "exponential", "gamma": 0.9},
            lambda o, n: theirs.ExponentialLR(o, gamma=0.9),
        ),
    ],
)
@pytest.mark.parametrize("warm", [1, 3])
def test_every_schedule_follows_a_warmup_by_epoch_as_torchs(options, make, warm):
    epochs, steps, start = 9, 7, 0.1
    expected = after_warmup(lambda o: make(o, epochs - warm), warm, start, epochs)
    schedule = Schedule(**options, by="epoch", warmup_epochs=warm, warmup_start=start)
    same(factors(schedule, epochs, steps), np.repeat(expected, steps))


@pytest.mark.parametrize("warmup_epochs", [1, 2, 0.5, 2.25])
def test_a_warmup_by_step_is_torchs_and_may_end_within_an_epoch(warmup_epochs):
    epochs, steps = 6, 8
    warm, total = int(warmup_epochs * steps), epochs * steps
    for options, make in (
        ({"name": "cosine"}, lambda o: theirs.CosineAnnealingLR(o, total - warm)),
        ({"name": "step", "every": 2}, lambda o: theirs.StepLR(o, 2 * steps)),
        ({"name": "constant"}, lambda o: theirs.ConstantLR(o, factor=1.0)),
    ):
        schedule = Schedule(**options, warmup_epochs=warmup_epochs)
        same(factors(schedule, epochs, steps), after_warmup(make, warm, 0.01, total))


def test_a_warmup_is_rounded_to_whole_steps():
    ours = factors(Schedule(warmup_epochs=0.5, warmup_start=0.4), 1, 7)
    np.testing.assert_allclose(ours, [0.4, 0.55, 0.7, 0.85, 1, 1, 1], rtol=1e-6)
    assert factors(Schedule(warmup_epochs=0.1), 1, 3) == 1


def test_a_warmup_may_outlast_its_phase():
    ours = factors(Schedule(name="cosine", warmup_epochs=4, warmup_start=0.2), 2, 2)
    np.testing.assert_allclose(ours, [0.2, 0.3, 0.4, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"name": "step"}, lambda o: theirs.StepLR(o, 1)),
        (
            {"name": "step", "every": 3, "gamma": 0.5},
            lambda o: theirs.StepLR(o, 3, 0.5),
        ),
        (
            {"name": "exponential", "gamma": 0.95},
            lambda o: theirs.ExponentialLR(o, 0.95),
        ),
    ],
)
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_step_and_exponential_are_torchs(options, make, epochs, steps):
    optimizer = sgd()
    expected = np.repeat(rates_of(make(optimizer), optimizer, epochs), steps)
    for by in ("step", "epoch"):
        same(factors(Schedule(**options, by=by), epochs, steps), expected)


@pytest.mark.parametrize("total", [*range(1, 12), 20, 30, 70, 97, 1000])
def test_one_cycle_is_torchs_rate_and_momentum(total):
    optimizer = sgd(torch.optim.Adam)
    cycle = theirs.OneCycleLR(optimizer, max_lr=RATE, total_steps=total)
    rates, momenta = [], []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        cycle.step()
    schedule = Schedule(name="one_cycle")
    divisor = next(d for d in (7, 5, 3, 2, 1) if total % d == 0)
    epochs, steps = divisor, total // divisor
    same(factors(schedule, epochs, steps), rates)
    ours = schedule.momentum(jnp.arange(total), epochs, steps)
    np.testing.assert_allclose(ours, momenta, rtol=1e-6)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("seed", range(20))
def test_plateau_is_torchs_on_random_walks(mode, seed):
    random = np.random.default_rng(seed)
    patience, gamma = int(random.integers(0, 4)), float(random.uniform(0.3, 0.9))
    values = 1 + np.cumsum(random.choice([-2e-4, -5e-5, 0, 5e-5, 2e-4], size=40))
    if seed % 4 == 0:
        values[[0, 7]] = np.nan
    optimizer = sgd()
    plateau = theirs.ReduceLROnPlateau(
        optimizer, mode=mode, factor=gamma, patience=patience, eps=0
    )
    schedule = Schedule(name="plateau", gamma=gamma, patience=patience)
    expected = []
    for epoch, value in enumerate(values, start=1):
        plateau.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
        ours = schedule.plateau_factor(values[:epoch], higher_is_better=mode == "max")
        np.testing.assert_allclose(ours * RATE, expected[-1], rtol=1e-12)
    assert expected[-1] < RATE * gamma  # More than one reduction was compared.


def test_only_a_plateau_lowers_the_rate_by_what_it_watches():
    assert Schedule().plateau_factor([1.0] * 50, higher_is_better=False) == 1
    assert Schedule(name="plateau").constant
    assert Schedule().constant
    assert not Schedule(warmup_epochs=1).constant
    assert not Schedule(name="cosine").constant


def test_a_schedule_is_given_as_a_name_a_table_or_itself():
    assert as_schedule("cosine") == Schedule(name="cosine")
    table = {"name": "step", "every": 2, "gamma": 0.5, "warmup_epochs": 1}
    made = as_schedule(table)
    assert made == Schedule(name="step", every=2, gamma=0.5, warmup_epochs=1)
    assert as_schedule(made) is made
    assert hash(made) == hash(as_schedule(table))
    assert as_schedule({"by": "epoch"}) == Schedule(by="epoch")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cosin", "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        (3, "schedule must be a name or a table, got 3"),
        (["cosine"], "schedule must be a name or a table"),
        ({"nam": "cosine"}, "Unknown key of schedule 'nam'. Did you mean 'name'"),
        ({"name": 1}, "schedule: name must be a text, got 1"),
        ({"final": "0"}, "schedule: final must be a number, got '0'"),
        ({"every": True}, "schedule: every must be a whole number, got True"),
        ({"every": 0}, "schedule: every must be at least 1, got 0"),
        ({"every": 1.5}, "schedule: every must be a whole number, got 1.5"),
        ({"patience": 1.5}, "schedule: patience must be a whole number, got 1.5"),
        ({"by": "batch"}, "Unknown way to count a schedule, by 'batch'"),
        ({"final": 1.5}, r"final must be in \[0, 1\], got 1.5"),
        ({"gamma": 0}, r"gamma must be in \(0, 1\], got 0"),
        ({"gamma": float("nan")}, "gamma must be a finite number or none, got nan"),
        ({"warmup_start": 0}, r"warmup_start must be in \(0, 1\], got 0"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, got -1"),
        (
            {"warmup_epochs": float("inf")},
            "warmup_epochs must be a finite number, got inf",
        ),
        ({"warmup_epochs": 0.5, "by": "epoch"}, 'can only be counted by "step"'),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ("exponential", "exponential schedule needs gamma"),
        ({"name": "one_cycle", "warmup_epochs": 1}, "a warm-up of its own"),
    ],
)
def test_a_wrong_schedule_is_a_sentence(value, message):
    with pytest.raises(InputError, match=message):
        as_schedule(value)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(), "constant"),
        (Schedule(name="cosine", final=0.1), "cosine by step to 0.1 of it"),
        (
            Schedule(name="cosine", by="epoch", warmup_epochs=5),
            "cosine by epoch, 5 epochs of warm-up",
        ),
        (Schedule(warmup_epochs=1), "constant, 1 epoch of warm-up"),
        (Schedule(name="one_cycle"), "one cycle"),
        (Schedule(name="step"), "times 0.1 every epoch"),
        (Schedule(name="step", every=30), "times 0.1 every 30 epochs"),
        (Schedule(name="exponential", gamma=0.9), "times 0.9 every epoch"),
        (
            Schedule(name="plateau", patience=3),
            "times 0.1 on a plateau of val_loss, patience 3",
        ),
    ],
)
def test_a_schedule_says_what_it_is(schedule, words):
    assert schedule.describe() == words
