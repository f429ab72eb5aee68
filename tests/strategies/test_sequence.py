"""Strategies carried out one after the other."""

import pytest

from jaxmed.errors import InputError
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def join(model, *phases):
    return create_strategy("sequence", model, phases=phases)


def test_parts_keep_their_options(model):
    strategy = join(
        model,
        {"strategy": "frozen", "epochs": 2, "optimizer": "sgd", "schedule": "cosine"},
        {"strategy": "partial", "layers": 3, "learning_rate": 0.5},
    )
    head, partial = strategy.phases
    assert (head.name, head.epochs, head.schedule.name) == ("head", 2, "cosine")
    assert head.groups[0].optimizer.name == "sgd"
    assert (partial.name, partial.groups[0].optimizer.learning_rate) == ("partial", 0.5)


def test_phases_of_the_same_name_are_numbered(model):
    strategy = join(
        model,
        {"strategy": "frozen"},
        {"strategy": "two_phase"},
        {"strategy": "norm_only"},
        {"strategy": "full"},
    )
    names = [phase.name for phase in strategy.phases]
    assert names == ["head 1", "head 2", "all 1", "norms", "all 2"]


def test_sequences_may_be_nested(model):
    frozen = {"strategy": "frozen"}
    inner = {"strategy": "sequence", "phases": [frozen, frozen]}
    names = [phase.name for phase in join(model, frozen, frozen, inner).phases]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "needs at least one strategy in `phases`"),
        ([{"epochs": 1}], "Part 1 of the sequence names no strategy"),
        ([{"strategy": "full"}, "frozen"], "'phases' .* must be a list, each a table"),
        ([{"strategy": "ful"}], "Unknown strategy 'ful'. Did you mean 'full'"),
        ([{"strategy": "full", "epoch": 1}], "option of strategy 'full' 'epoch'"),
        ([{"strategy": "full", "name": "x"}], "option of strategy 'full' 'name'"),
        ([{"strategy": "full", "epochs": 0}], "epochs must be at least 1, got 0"),
    ],
)
def test_a_wrong_part_is_a_sentence(model, phases, message):
    with pytest.raises(InputError, match=message):
        join(model, *phases)
