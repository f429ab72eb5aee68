"""Groups, phases and presets."""

import inspect
import sys

import pytest

from jaxmed.errors import InputError
from jaxmed.models.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.models.zoo import create_model
from jaxmed.strategies import (
    Group,
    Optimizer,
    Phase,
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


def test_statistics_drift_where_told(model):
    head = create_strategy("frozen", model, batch_norm="train").phases[0]
    assert head.training_norms(model) == set(norm_paths(model))
    assert set(head.assign(split(model).params)) == {"head.out.kernel", "head.out.bias"}
    table = create_strategy("two_phase", model, batch_norm="train").describe(model)
    assert "head: the statistics of frozen BatchNorm layers in backbone drift" in table
    wrong = Strategy(
        name="s",
        phases=(
            Phase(name="p", epochs=1, groups=(group("h", "head"),), drifting=("x",)),
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
        ("full", {"weight_decay": float("nan")}, "weight_decay must be at least 0"),
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
        Strategy(name="s", phases=(phase(), phase()))


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
