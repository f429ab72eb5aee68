"""Groups, phases and presets."""

import dataclasses
import inspect
import sys

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import (
    Group,
    Optimizer,
    Phase,
    Schedule,
    Strategy,
    create_strategy,
    options_of,
)

PATHS = ["backbone.conv1.kernel", "backbone.bn1.scale", "head.out.kernel"]


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def group(name, *patterns):
    return Group(name=name, patterns=patterns, optimizer=Optimizer(learning_rate=1e-3))


def phase(*groups):
    return Phase(name="p", epochs=1, groups=groups)


def test_frozen_layers_update_statistics_on_request(model):
    head = create_strategy("frozen", model, batch_norm="train").phases[0]
    assert head.training_norms(model) == set(norm_paths(model))
    assert set(head.assign(split(model).params)) == {"head.out.kernel", "head.out.bias"}
    table = create_strategy("two_phase", model, batch_norm="train").describe(model)
    assert "head: frozen BatchNorm layers in backbone update their statistics" in table
    wrong = Strategy(
        name="s",
        phases=(
            Phase(
                name="p",
                epochs=1,
                groups=(group("h", "head"),),
                updating_bn_stats=("x",),
            ),
        ),
    )
    with pytest.raises(InputError, match="no BatchNorm layer matches 'x'"):
        wrong.summary(model)


def test_presets_count_as_the_tutorials_print():
    model = create_model("resnet18", num_classes=2)
    head, everything = create_strategy("two_phase", model).summary(model)
    # Linear(512, 2), and the number that torchvision gives for ResNet-18 with it.
    assert head["trainable"] == 1_026
    assert everything["trainable"] == 11_177_538
    assert (head["epochs"], everything["epochs"]) == (3, 5)
    assert head["groups"][0]["learning_rate"] == 1e-3
    assert everything["groups"][0]["learning_rate"] == 1e-5
    table = create_strategy("two_phase", model).describe(model)
    counts = "1,026 of 11,177,538 parameters trainable (0.0%)"
    assert f"head: {counts}, frozen: stem, layer1, layer2, layer3, layer4" in table
    assert "backbone, head" in table


def test_options_reach_the_optimizer(model):
    strategy = create_strategy(
        "full", model, optimizer="sgd", learning_rate=0.1, weight_decay=0.01, epochs=2
    )
    assert strategy.phases[0].epochs == 2
    assert strategy.phases[0].groups[0].optimizer == Optimizer(
        name="sgd", learning_rate=0.1, weight_decay=0.01
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two_fase", {}, "Did you mean 'two_phase'"),
        ("full", {"epoch": 3}, "Did you mean 'epochs'"),
        ("full", {"epochs": 0}, "epochs must be at least 1, got 0"),
        ("full", {"optimizer": "adamm"}, "Did you mean"),
        ("full", {"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ("full", {"weight_decay": float("nan")}, "must be a finite number"),
        ("no_such_module:f", {}, "No module named 'no_such_module'"),
        ("jaxmed.errors:f", {}, "has no function 'f'"),
    ],
)
def test_bad_input_is_a_sentence(model, name, options, message):
    with pytest.raises(InputError, match=message):
        create_strategy(name, model, **options)


def test_phases_have_different_names():
    with pytest.raises(InputError, match="different names"):
        Strategy(name="s", phases=())
    with pytest.raises(InputError, match="different names"):
        Strategy(name="s", phases=(phase(group("a", "head")),) * 2)


def test_lists_are_taken_for_tuples(model):
    head = Group(name="h", patterns=["head"], optimizer=Optimizer(learning_rate=1e-3))
    listed = Phase(
        name="p", epochs=np.int64(2), groups=[head], updating_bn_stats=["backbone"]
    )
    strategy = Strategy(name="s", phases=[listed])
    assert hash(strategy) == hash(dataclasses.replace(strategy))
    assert (listed.groups, listed.updating_bn_stats) == ((head,), ("backbone",))
    assert type(listed.epochs) is int
    assert strategy.summary(model)[0]["epochs"] == 2
    assert Phase(name="p", epochs=1, groups=(head,), schedule="cosine").schedule == (
        Schedule(name="cosine")
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h: Phase(name="p", epochs=1, groups=()), "'p' has no groups"),
        (lambda h: dataclasses.replace(h, patterns=()), "'h' has no patterns"),
        (lambda h: dataclasses.replace(h, patterns="head"), "patterns must be a list"),
        (lambda h: dataclasses.replace(h, patterns=(1,)), "each a text, got"),
        (lambda h: dataclasses.replace(h, optimizer="adam"), "must be an Optimizer"),
        (lambda h: Phase(name="p", epochs=1, groups=(h, h)), "groups of the name 'h'"),
        (lambda h: Phase(name="p", epochs=1, groups=h), "groups must be a list"),
        (lambda h: Phase(name="p", epochs=1, groups=("head",)), "a list of Group, got"),
        (lambda h: Phase(name="p", epochs="2", groups=(h,)), "must be a whole number"),
        (lambda h: Phase(name="p", epochs=1.5, groups=(h,)), "must be a whole number"),
        (lambda h: Phase(name="p", epochs=10**30, groups=(h,)), "at most 2,147,"),
        (lambda h: Phase(name="p", epochs=1, groups=(h,), clip_norm=np.inf), "finite"),
        (lambda h: Phase(name=3, epochs=1, groups=(h,)), "name must be a text, got 3"),
        (lambda h: Strategy(name="s", phases=(h,)), "a list of Phase, got Group"),
        (lambda h: Strategy(name="s", phases=h), "phases must be a list, got Group"),
        (lambda h: Optimizer(learning_rate=np.inf), "a finite number, got inf"),
        (lambda h: Optimizer(learning_rate=10**400), "learning_rate must be a number"),
        (lambda h: Optimizer(learning_rate=0.1, weight_decay=np.nan), "finite number"),
        (lambda h: Optimizer(learning_rate=0.1, make="adam"), "must be a function"),
        (lambda h: Optimizer(learning_rate=0.1, nesterov=1), "must be true or false"),
    ],
)  # fmt: skip
def test_a_mistake_in_ones_own_strategy_is_a_sentence(make, message):
    head = Group(name="h", patterns=("head",), optimizer=Optimizer(learning_rate=1e-3))
    with pytest.raises(InputError, match=message):
        make(head)


def test_a_strategy_of_ones_own(model, tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text(
        "from jaxmed.strategies import Group, Optimizer, Phase, Strategy\n"
        "def last_stage(model, *, rate: float = 1e-4):\n"
        "    optimizer = Optimizer(name='adamw', learning_rate=rate)\n"
        "    last = Group(name='last', patterns=('backbone.layer4', 'head'),\n"
        "                 optimizer=optimizer)\n"
        "    phase = Phase(name='last', epochs=2, groups=(last,))\n"
        "    return Strategy(name='last_stage', phases=(phase,))\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    name = "their_package:last_stage"
    assert list(options_of(name).parameters) == ["rate"]
    strategy = create_strategy(name, model, rate=0.5)
    trained = strategy.phases[0].assign(split(model).params)
    assert all(path.startswith(("backbone.layer4", "head")) for path in trained)
    with pytest.raises(InputError, match="Did you mean 'rate'"):
        create_strategy(name, model, rat=0.5)


def test_options_have_types_and_defaults():
    parameters = options_of("two_phase").parameters
    assert "model" not in parameters
    assert all(p.default is not inspect.Parameter.empty for p in parameters.values())
