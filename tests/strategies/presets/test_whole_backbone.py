"""Strategies for the backbone as a whole."""

import pytest

from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import Optimizer, create_strategy


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def test_l2_sp_pulls_the_backbone_and_decays_the_head(model):
    (phase,) = create_strategy("l2_sp", model, strength=0.25).phases
    backbone, head = phase.groups
    sgd = {"name": "sgd", "momentum": 0.9}
    assert backbone.optimizer == Optimizer(learning_rate=1e-3, l2_sp=0.25, **sgd)
    assert head.optimizer == Optimizer(learning_rate=1e-2, weight_decay=1e-2, **sgd)
    assert set(phase.assign(split(model).params)) == set(split(model).params)


def test_l2_sp_takes_another_optimizer_and_decay(model):
    (phase,) = create_strategy(
        "l2_sp", model, optimizer="adamw", weight_decay=0.5
    ).phases
    backbone, head = (group.optimizer for group in phase.groups)
    assert (backbone.name, backbone.momentum, backbone.weight_decay) == ("adamw", 0, 0)
    assert (head.weight_decay, head.l2_sp) == (0.5, 0)


def test_a_probe_is_trained_out_before_the_cosine(model):
    strategy = create_strategy("linear_probe_then_finetune", model)
    probe, tuning = strategy.phases
    assert set(probe.assign(split(model).params)) == {
        "head.out.kernel",
        "head.out.bias",
    }
    assert set(tuning.assign(split(model).params)) == set(split(model).params)
    assert (probe.epochs, probe.patience, probe.schedule.name) == (10, 2, "constant")
    assert (tuning.epochs, tuning.patience, tuning.schedule.name) == (5, None, "cosine")
    assert probe.groups[0].optimizer.learning_rate == 1e-3
    assert tuning.groups[0].optimizer.learning_rate == 1e-5


def test_settings_replace_what_the_probe_and_the_tuning_have(model):
    strategy = create_strategy(
        "linear_probe_then_finetune", model, patience=4, schedule="one_cycle"
    )
    assert [phase.patience for phase in strategy.phases] == [4, 4]
    assert {phase.schedule.name for phase in strategy.phases} == {"one_cycle"}


def test_two_phase_gives_its_settings_to_both(model):
    strategy = create_strategy("two_phase", model, optimizer="lion", clip_norm=2.0)
    assert {phase.clip_norm for phase in strategy.phases} == {2.0}
    assert {phase.groups[0].optimizer.name for phase in strategy.phases} == {"lion"}
