"""Strategies by stage: what each trains, and at which rate."""

import pytest

from jaxmed.errors import InputError
from jaxmed.models.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.models.zoo import create_model
from jaxmed.strategies import create_strategy

STAGES = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def rates(strategy, phase=0):
    return {g.name: g.optimizer.learning_rate for g in strategy.phases[phase].groups}


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({}, ["layer4", "head"]),
        ({"stages": 0}, ["head"]),
        ({"stages": 5}, STAGES),
        ({"from_stage": "layer3"}, ["layer3", "layer4", "head"]),
    ],
)
def test_partial(model, options, trained):
    strategy = create_strategy("partial", model, learning_rate=0.25, **options)
    assert list(rates(strategy)) == trained
    assert rates(strategy) == dict.fromkeys(trained, 0.25) | {"head": 1e-3}
    (phase,) = strategy.summary(model)
    assert phase["frozen"] == [stage for stage in STAGES if stage not in trained]
    paths = strategy.phases[0].assign(split(model).params)
    if "layer3" in trained:
        assert "backbone.layer3.0.conv1.kernel" in paths
    assert ("backbone.conv1.kernel" in paths) == ("stem" in trained)
    norms = strategy.phases[0].training_norms(model)
    assert ("backbone.bn1" in norms) == ("stem" in trained)


def test_the_tutorials_discriminative_rates_leave_the_stem_frozen(model):
    strategy = create_strategy("discriminative", model)
    assert rates(strategy) == dict(
        zip(STAGES[1:], (1e-5, 1e-5, 1e-4, 1e-4, 1e-3), strict=True)
    )
    assert "frozen: stem" in strategy.describe(model)
    every = create_strategy("discriminative", model, rates=[1, 2, 3, 4, 5, 6])
    assert rates(every) == dict(zip(STAGES, range(1, 7), strict=True))
    assert "frozen" not in every.describe(model)


def test_layerwise_decay(model):
    strategy = create_strategy("layerwise_decay", model, learning_rate=32.0, decay=0.5)
    assert rates(strategy) == dict(zip(STAGES, (1, 2, 4, 8, 16, 32), strict=True))


def test_backbone_and_head(model):
    strategy = create_strategy("backbone_and_head", model)
    assert set(rates(strategy).values()) == {1e-4, 1e-3}
    (phase,) = strategy.summary(model)
    assert phase["trainable"] == sum(a.size for a in split(model).params.values())


def test_gradual_unfreezing(model):
    strategy = create_strategy("gradual_unfreezing", model)
    expected = ["head", "layer4", "layer3", "layer2", "layer1", "stem"]
    assert [phase.name for phase in strategy.phases] == expected
    for number, phase in enumerate(strategy.phases):
        assert set(rates(strategy, number)) == set(expected[: number + 1])
        assert phase.epochs == 1


def test_norm_only(model):
    strategy = create_strategy("norm_only", model)
    paths = strategy.phases[0].assign(split(model).params)
    expected = {f"{norm}.{part}" for norm in norm_paths(model) for part in NORM}
    assert set(paths) == expected | {"head.out.kernel", "head.out.bias"}
    assert "and 8 more" in strategy.describe(model)


NORM = ("scale", "bias")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("partial", {"stages": 6}, "from 0 to 5, the stages of resnet10_narrow"),
        ("partial", {"stages": -1}, "got -1"),
        ("partial", {"from_stage": "layer5"}, "Did you mean"),
        ("discriminative", {"rates": [1.0] * 7}, "1 to 6 numbers.*got 7"),
        ("discriminative", {"rates": ["fast"]}, "a list, each a number, got"),
        ("layerwise_decay", {"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
    ],
)
def test_bad_input_is_a_sentence(model, name, options, message):
    with pytest.raises(InputError, match=message):
        create_strategy(name, model, **options)
