"""The learning-rate range test: the loss while the rate rises step by step.

Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3,
with the smoothing and the end of fastai's `lr_find`.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import draw_epoch
from jaxmed.data.dataset import MISSING, Dataset
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import Devices, data_mesh, replicate
from jaxmed.strategies import Phase, Schedule
from jaxmed.training.checks import AnyStrategy, check_phases, prepare_training
from jaxmed.training.config import TrainingConfig, check_type
from jaxmed.training.inputs.feeds import Feed, create_feed
from jaxmed.training.lr_finder.suggest import falls, smooth, steepest, valley
from jaxmed.training.state import StepPlan, begin_phase, zero_totals

ALL = "all groups"
# The test ends when the smoothed loss is so many times its lowest, as in fastai.
DIVERGED = 4.0
FEWEST_STEPS = 10
NO_FALL = "No fall beyond chance; larger batches or more steps may show one."


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What one range test found.

    Attributes:
        phase: its name.
        group: which group's rate rose while the others' was 0; "all groups" where all
            rose together, and their ratios stayed as they are.
        own: the group's rate in the strategy; of all groups the highest rate.
        rates: of the group, or the highest one of all groups, by step, float64 (n,).
            Fewer than were asked for if the loss diverged.
        losses: of the batch of the step, before its update, float64 (n,).
        smoothed: see `smooth`, float64 (n,).
        steepest: where the smoothed loss falls fastest, often the highest rate that
            goes well for some steps; None if it does not fall.
        valley: a more careful one, two thirds along its longest fall; None likewise.
        note: a sentence if there is no suggestion, or the test ended too early for a
            good one; otherwise empty.
    """

    phase: str
    group: str
    own: float
    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float | None
    valley: float | None
    note: str


def find_learning_rates(
    model: Classifier,
    data: Dataset,
    strategy: AnyStrategy,
    config: TrainingConfig | None = None,
    *,
    steps: int = 100,
    low: float = 1e-7,
    high: float = 1.0,
    devices: Devices | None = None,
    **options: Any,
) -> list[RangeTest]:
    """Raises the learning rate of every phase and group until the loss diverges.

    All groups of a phase together and then, if there are several, each one alone. A
    test makes the phase's steps (its groups, optimizers, BatchNorm layers and limit on
    gradients) at a rate that rises from `low` to `high` by the same factor at every
    step, without the phase's schedule. Each begins with the weights that the model
    has now, those of later phases too: no phase is trained for the next.

    Args:
        model: stays as it is, bit for bit.
        data: only `train` is looked at.
        strategy, config, devices, **options: as of `fit`.
        steps: of each test, at least 10.
        low, high: the first and the last rate, above 0.

    Returns:
        The tests in the order of the phases, of each phase all groups first.

    Raises:
        InputError: an argument out of its range, one that `fit` would refuse, a phase
            whose rates are all 0, or a loss that is not finite before the first step.
    """
    config, mesh = TrainingConfig.of(config, options), data_mesh(devices)
    if steps < FEWEST_STEPS:
        raise InputError(f"steps must be at least {FEWEST_STEPS}, got {steps}.")
    if not 0 < low < high < math.inf:
        raise InputError(
            f"The rates must rise from low to high, above 0; got {low:g} and {high:g}."
        )
    check_type(Classifier, model, "model")
    check_type(Dataset, data, "data")
    # A copy, because a phase puts BatchNorm layers in its modes.
    model, rates = merge(*split(model)), np.geomspace(low, high, steps)
    strategy, config = prepare_training(
        model,
        data,
        strategy,
        config,
        mesh=mesh,
        # No batch is short: the epochs are cut as one.
        images=min(config.batch_size, len(data.train)),
    )
    check_phases(strategy)
    sweeps = [_sweeps(phase) for phase in strategy.phases]
    feed = create_feed(
        config.feed,
        data.train.images,
        data.train.labels,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        mesh=mesh,
        # Every step has another rate.
        steps_per_dispatch=1,
    )
    needed = steps * config.batch_size * config.accumulate
    order = _endless(data.train.labels, config.sampling, needed, config.seed)
    tests = []
    for number, phase in enumerate(strategy.phases):
        plan = StepPlan.of(config, phase=_with_rates_of_one(phase), task=data.task)
        # No average of the weights is looked at.
        plan = replace(plan, ema=0.0)
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        measure = _prepare(model, plan, feed, order, rates, key, mesh)
        for name, shares in sweeps[number].items():
            title = phase.name if len(shares) == 1 else f"{phase.name}, {name}"
            tests.append(_suggest(phase, name, rates, measure(shares, title)))
    return tests


def _sweeps(phase: Phase) -> dict[str, dict[str, float]]:
    """Returns the tests of a phase: by name, of each group its share of the rate."""
    rates = {group.name: group.optimizer.learning_rate for group in phase.groups}
    highest = max(rates.values(), default=0.0)
    if highest == 0:
        raise InputError(
            f"Phase {phase.name!r}: all learning rates are 0, so their ratios are not "
            "defined. Give a group a rate above 0."
        )
    if len(rates) == 1:
        return {name: {name: 1.0} for name in rates}
    alone = {name: {other: float(other == name) for other in rates} for name in rates}
    return {ALL: {name: rate / highest for name, rate in rates.items()}} | alone


def _with_rates_of_one(phase: Phase) -> Phase:
    """Makes every rate 1 and constant, so that the step's factor on it is the rate."""
    groups = tuple(
        replace(group, optimizer=replace(group.optimizer, learning_rate=1.0))
        for group in phase.groups
    )
    return replace(phase, groups=groups, schedule=Schedule())


def _endless(labels: np.ndarray, sampling: str, needed: int, seed: int) -> np.ndarray:
    """Returns the first images of one epoch after the other.

    Cut as one, they make no short batch, which would be a spike in the loss. Images of
    which no label is known, and whose loss is not either, are left out.
    """
    known = (labels != MISSING).reshape(len(labels), -1).any(axis=1)
    epochs = range(1, 1 + math.ceil(needed / known.sum()))
    order = np.concatenate(
        [draw_epoch(labels, sampling, seed=seed, epoch=epoch) for epoch in epochs]
    )
    return order[known[order]][:needed]


def _prepare(
    model: Classifier,
    plan: StepPlan,
    feed: Feed,
    order: np.ndarray,
    rates: np.ndarray,
    key: jax.Array,
    mesh: Mesh,
) -> Callable[[dict[str, float], str], list[float]]:
    """Compiles a phase's step once; each test by it begins anew."""
    definition, start, frozen = begin_phase(model, plan)
    step = partial(
        feed.compile_step(definition, plan),
        frozen=replicate(frozen, mesh),
        key=replicate(key, mesh),
    )
    groups = plan.phase.assign(start.params)

    def measure(shares: dict[str, float], title: str) -> list[float]:
        state, losses = replicate(start, mesh), []
        with (
            progress(f"range test of {title}", len(rates), unit="steps") as advance,
            closing(feed.dispatches(order)) as dispatches,
        ):
            advance(0, step="being compiled")
            for rate, dispatch in zip(rates, dispatches, strict=True):
                scale = {p: np.float32(rate * shares[g]) for p, g in groups.items()}
                # Of this step alone.
                state = state._replace(totals=replicate(zero_totals(), mesh))
                state = step(state, **dispatch.arguments, scale=scale)
                losses.append(float(state.totals["loss"] / state.totals["weight"]))
                advance(1, rate=f"{rate:.1e}", loss=losses[-1])
                if _diverged(losses, len(rates)):
                    break
        return losses

    return measure


def _diverged(losses: Sequence[float], steps: int) -> bool:
    smoothed = smooth(losses, steps)
    return not math.isfinite(losses[-1]) or smoothed[-1] > DIVERGED * smoothed.min()


def _suggest(
    phase: Phase, name: str, rates: np.ndarray, measured: Sequence[float]
) -> RangeTest:
    """Makes the suggestions of a test."""
    # Only the last one can be anything else.
    losses = np.array([loss for loss in measured if math.isfinite(loss)])
    if not len(losses):
        raise InputError(
            f"The loss of the starting weights is {measured[0]}, so no learning rate "
            "can be found. Look at the weights and the images."
        )
    count, steps = len(losses), len(rates)
    smoothed = smooth(losses, steps)
    # The average has little to look back on in the first tenth, as fastai skips.
    seen = slice(steps // 10, count)
    suggestions: dict[str, Any] = {"steepest": None, "valley": None, "note": ""}
    if count <= steps // 10 or not falls(losses[seen], smoothed[seen], steps):
        suggestions["note"] = NO_FALL
    else:
        suggestions["steepest"] = steepest(rates[seen], smoothed[seen])
        suggestions["valley"] = valley(rates[seen], smoothed[seen])
        if smoothed.argmin() == steps - 1:
            suggestions["note"] = "The loss still falls at the highest rate."
    group_rates = {group.name: group.optimizer.learning_rate for group in phase.groups}
    return RangeTest(
        phase=phase.name,
        group=name,
        own=group_rates.get(name, max(group_rates.values())),
        rates=rates[:count],
        losses=losses,
        smoothed=smoothed,
        **suggestions,
    )
