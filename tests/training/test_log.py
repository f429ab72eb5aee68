"""The training log: history, best weights, and the position that a run resumes from."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import open_checkpoints
from jaxmed.checkpoints.recovery import Position
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.parameters import split
from jaxmed.strategies import Group, Optimizer, Phase, Strategy
from jaxmed.training.config import TrainingConfig
from jaxmed.training.identity import identify
from jaxmed.training.log import TrainingLog, check_extension
from jaxmed.training.state import StepPlan, all_weights, begin_phase


def phase(name, *patterns, **settings):
    optimizer = Optimizer(name="adam", learning_rate=0.1)
    group = Group(name="some", patterns=patterns, optimizer=optimizer)
    return Phase(name=name, epochs=2, groups=(group,), **settings)


STRATEGY = Strategy(
    name="two", phases=(phase("first", "head"), phase("second", "head", "backbone"))
)


def row(log, phase, accuracy):
    return {"phase": phase, "epoch": log.next_epoch, "val_accuracy": accuracy}


@pytest.fixture
def training(new_tiny, quarters):
    """A model, and functions for its log and for a state with recognizable weights."""
    model = new_tiny()
    config = TrainingConfig(
        select="val_accuracy", preprocessing=Preprocessing(image_size=12)
    )

    def new_log(checkpoints=None, strategy=STRATEGY):
        identity = identify(new_tiny(), quarters, strategy, config)
        return TrainingLog(strategy, config.select, identity, checkpoints)

    def state_of(value, number=0):
        plan = StepPlan.of(config, phase=STRATEGY.phases[number], task=quarters.task)
        _, state, frozen = begin_phase(model, plan)
        params = {p: np.full(a.shape, value, a.dtype) for p, a in state.params.items()}
        state = state._replace(params=params, step=np.int32(value))
        return state, all_weights(state, frozen)

    return model, new_log, state_of


def bias(weights):
    return float(np.asarray(weights["head.out.bias"])[0])


def test_the_best_epochs_weights_are_kept_of_all_and_of_the_phase(training):
    _, new_log, state_of = training
    log, (first, second) = new_log(), STRATEGY.phases
    for value, (name, accuracy) in enumerate(
        [("first", 0.5), ("first", 0.7), ("second", 0.6), ("second", 0.6)], start=1
    ):
        assert log.next_epoch == value
        state, weights = state_of(value)
        log.record(row(log, name, accuracy), weights, state)
    assert log.best == {
        "phase": "first", "epoch": 2, "metric": "val_accuracy", "value": 0.7,
    }  # fmt: skip
    assert bias(log.best_weights()) == 2
    # The earliest of equals.
    assert bias(log.best_weights(second)) == 3
    assert [r["epoch"] for r in log.rows(first)] == [1, 2]
    assert log.is_over(first)
    assert log.is_over(second)


def test_an_epoch_that_was_begun_is_resumed_at_its_step(training, new_tiny, tmp_path):
    _, new_log, state_of = training
    state, weights = state_of(1)
    later, later_weights = state_of(2)
    with open_checkpoints(tmp_path) as checkpoints:
        log = new_log(checkpoints)
        log.record(row(log, "first", 0.5), weights, state)
        log.save("first", later_weights, later, steps=3, seconds=1.5)
    model = new_tiny()
    with open_checkpoints(tmp_path) as checkpoints:
        log = new_log(checkpoints)
        log.resume(model)
        assert checkpoints.latest == Position(1, 3)
        assert (log.next_epoch, log.steps_done(2)) == (2, (3, 1.5))
        # Of no other epoch.
        assert log.steps_done(1) == log.steps_done(3) == (0, 0.0)
        assert bias(split(model).params) == 2
        assert bias(log.best_weights()) == 1
        restored = log.restore(STRATEGY.phases[0], state)
        assert int(restored.step) == 2
    assert jax.tree.structure(restored) == jax.tree.structure(later)


def test_a_phase_that_is_over_hands_its_best_weights_on(training, new_tiny, tmp_path):
    _, new_log, state_of = training
    with open_checkpoints(tmp_path) as checkpoints:
        log = new_log(checkpoints)
        for value, accuracy in ((1, 0.9), (2, 0.5)):
            state, weights = state_of(value)
            log.record(row(log, "first", accuracy), weights, state)
    model = new_tiny()
    with open_checkpoints(tmp_path) as checkpoints:
        log = new_log(checkpoints)
        log.resume(model)
        assert log.steps_done(3) == (0, 0.0)
        assert bias(split(model).params) == 1
        fresh, _ = state_of(7, number=1)
        # The second phase begins anew.
        assert log.restore(STRATEGY.phases[1], fresh) is fresh


def test_without_checkpoints_nothing_is_resumed(training):
    model, new_log, state_of = training
    before = bias(split(model).params)
    log = new_log()
    log.resume(model)
    assert (log.history, bias(split(model).params)) == ([], before)
    state, _ = state_of(1)
    assert log.restore(STRATEGY.phases[0], state) is state


def test_only_more_epochs_extend_a_training(training, tmp_path):
    _, new_log, state_of = training
    with pytest.raises(InputError, match="There is no checkpoint in"):
        check_extension(tmp_path / "none", STRATEGY)
    state, weights = state_of(1)
    with open_checkpoints(tmp_path) as checkpoints:
        log = new_log(checkpoints)
        log.record(row(log, "first", 0.5), weights, state)

    def changed(**settings):
        first, second = STRATEGY.phases
        phases = (dataclasses.replace(first, **settings), second)
        return dataclasses.replace(STRATEGY, phases=phases)

    check_extension(tmp_path, changed(epochs=9))
    with pytest.raises(InputError, match="clip_norm was not there, and now is"):
        check_extension(tmp_path, changed(clip_norm=1.0))
