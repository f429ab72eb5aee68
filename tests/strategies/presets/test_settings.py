"""Settings that every preset takes: what becomes of them in its phases."""

import pytest

from jaxmed.errors import InputError
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import Optimizer, Strategy, create_strategy
from jaxmed.strategies.presets.settings import make_phase
from jaxmed.strategies.schedules import Schedule

EVERY = {
    "optimizer": "sgd",
    "weight_decay": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "decay_bias_and_norm": False,
    "schedule": {"name": "step", "every": 2, "gamma": 0.5, "warmup_epochs": 1},
    "clip_norm": 1.0,
    "patience": 3,
    "restore_best": False,
    "batch_norm": "eval",
}


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


@pytest.fixture(scope="module")
def without_norms():
    return create_model("vgg11", num_classes=2, pool="average")


def test_every_setting_reaches_its_phase_and_the_phase_can_be_hashed(model):
    first, second = (create_strategy("full", model, **EVERY) for _ in range(2))
    (phase,) = first.phases
    assert phase.groups[0].optimizer == Optimizer(
        name="sgd",
        learning_rate=1e-4,
        weight_decay=0.1,
        momentum=0.9,
        nesterov=True,
        decay_bias_and_norm=False,
    )
    assert phase.schedule == Schedule(name="step", every=2, gamma=0.5, warmup_epochs=1)
    assert (phase.clip_norm, phase.patience, phase.restore_best) == (1.0, 3, False)
    # A compiled step is kept by its phase.
    assert hash(first) == hash(second)
    assert first == second


def trained_stage(model, policy, stage="layer4"):
    patterns = tuple(f"backbone.{name}" for name in stage.split())
    rates = {"g": ((*patterns, "head"), 0.1)}
    return make_phase(model, "p", 1, rates, {"batch_norm": policy})


@pytest.mark.parametrize(
    ("policy", "modes"),
    [
        ("trained", {"layer3": "frozen", "layer4": "trained"}),
        ("eval", {"layer3": "frozen", "layer4": "frozen"}),
        ("train", {"layer3": "updating_bn_stats", "layer4": "trained"}),
    ],
)
def test_batch_norm_decides_the_mode_of_every_layer(model, policy, modes):
    phase = trained_stage(model, policy)
    live = phase.training_norms(model)
    own = {path for path in norm_paths(model) if path.startswith("backbone.layer4.")}
    assert (
        live == {"trained": own, "eval": set(), "train": set(norm_paths(model))}[policy]
    )
    (summary,) = Strategy(name="s", phases=(phase,)).summary(model)
    for stage in summary["stages"]:
        if stage["name"] in modes:
            counts = stage["norms"]
            assert counts.pop(modes[stage["name"]]) == 3
            assert not any(counts.values())


def test_what_is_trained_does_not_depend_on_batch_norm(model):
    params = split(model).params
    assigned = [
        trained_stage(model, policy).assign(params)
        for policy in ("trained", "eval", "train")
    ]
    assert assigned[0] == assigned[1] == assigned[2]


def test_the_table_tells_which_norms_update_and_which_do_not(model):
    def lines(name, policy):
        return create_strategy(name, model, batch_norm=policy).describe(model)

    update = "head: frozen BatchNorm layers in backbone update their statistics"
    keep = "all: trained BatchNorm layers in backbone keep their statistics"
    assert update in lines("frozen", "train")
    assert keep in lines("full", "eval")
    # Where all of them are trained none is frozen, and the other way round.
    assert "BatchNorm" not in lines("full", "train")
    assert "BatchNorm" not in lines("full", "trained")
    assert "BatchNorm" not in lines("frozen", "eval")


@pytest.mark.parametrize("policy", ["trained", "eval", "train"])
def test_a_model_without_batch_norm_takes_every_policy(without_norms, policy):
    strategy = create_strategy("full", without_norms, batch_norm=policy)
    assert strategy.phases[0].training_norms(without_norms) == frozenset()
    assert strategy.summary(without_norms)[0]["frozen_bn_stats"] == []
    assert strategy.summary(without_norms)[0]["updating_bn_stats"] == []


def test_norms_of_which_only_the_bias_is_trained_keep_their_statistics(model):
    assert not create_strategy("bias_only", model).phases[0].training_norms(model)
    drift = create_strategy("bias_only", model, batch_norm="train").phases[0]
    assert drift.training_norms(model) == set(norm_paths(model))
    (summary,) = Strategy(name="s", phases=(drift,)).summary(model)
    assert {s["norms"]["trained"] for s in summary["stages"]} == {0}


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        ("cosine", "all: learning rate cosine by step"),
        ({"name": "one_cycle"}, "all: learning rate one cycle"),
        ({"warmup_epochs": 2}, "all: learning rate constant, 2 epochs of warm-up"),
    ],
)
def test_the_table_tells_the_schedule(model, schedule, line):
    table = create_strategy("full", model, schedule=schedule).describe(model)
    assert line in table.splitlines()
    assert "learning rate" not in create_strategy("full", model).describe(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_norm": "trian"}, "Unknown batch_norm 'trian'. Did you mean 'train'"),
        ({"schedule": "cosin"}, "Unknown schedule 'cosin'"),
        ({"schedule": {"every": 0}}, "schedule: every must be at least 1"),
        ({"clip_norm": 0}, "Phase 'all': clip_norm must be above 0, got 0"),
        ({"patience": 0}, "Phase 'all': patience must be at least 1, got 0"),
        ({"momentum": 0.9}, "momentum is a setting of sgd, not of adam"),
    ],
)
def test_a_wrong_setting_is_a_sentence(model, settings, message):
    with pytest.raises(InputError, match=message):
        create_strategy("full", model, **settings)
