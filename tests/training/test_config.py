"""Options of training: declared once, and found wherever they are needed."""

from dataclasses import fields, replace

import pytest

from jaxmed.config.schema import TrainConfig, TrainingOptions
from jaxmed.data.batching import SAMPLINGS
from jaxmed.errors import InputError
from jaxmed.models.precision import PRECISIONS
from jaxmed.training.config import CacheSettings, TrainingConfig
from jaxmed.training.fit import fit
from jaxmed.training.identity import flatten
from jaxmed.training.model_selection import SELECTORS
from jaxmed.training.state import StepPlan


def names(kind):
    return [field.name for field in fields(kind)]


def test_a_recipe_and_fit_share_their_options():
    shared = names(TrainingOptions)
    assert set(shared) <= set(names(TrainConfig)) & set(names(TrainingConfig))
    for name in shared:
        assert getattr(TrainConfig(), name) == getattr(TrainingConfig(), name)


def test_every_option_is_documented():
    for option in fields(TrainingConfig):
        assert f"        {option.name}: {option.metadata['doc']}." in str(
            TrainingConfig.__doc__
        )


@pytest.mark.parametrize(
    ("option", "known"),
    [("select", SELECTORS), ("sampling", SAMPLINGS), ("precision", PRECISIONS)],
)
def test_choices_are_those_that_there_are(option, known):
    declared = TrainingOptions.__dataclass_fields__[option]
    assert sorted(declared.metadata["choices"]) == sorted(known)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ema": 1.0}, "ema must be below 1, got 1.0."),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0."),
        ({"checkpoint_steps": -1}, "checkpoint_steps must be at least 0, got -1."),
        (
            {"sampling": "balance"},
            "sampling must be one of shuffle, balanced; got 'balance'. Did you mean "
            "'balanced'?",
        ),
    ],
)
def test_a_value_out_of_range_is_a_sentence(options, sentence):
    with pytest.raises(InputError) as raised:
        TrainingConfig(**options)
    assert str(raised.value) == sentence


def test_options_replace_those_of_a_configuration():
    config = TrainingConfig(batch_size=8, loss="focal")
    changed = TrainingConfig.of(config, {"batch_size": 4})
    assert changed == replace(config, batch_size=4)
    assert TrainingConfig.of(None, {}) == TrainingConfig()
    with pytest.raises(InputError, match="Unknown option of training 'batchsize'"):
        TrainingConfig.of(None, {"batchsize": 4})
    with pytest.raises(InputError, match=r"config must be a jaxmed.training.config.Tr"):
        TrainingConfig.of({"batch_size": 4}, {})


def test_a_configuration_trains_as_its_options_do(new_tiny, quarters):
    options = {"batch_size": 8, "seed": 3, "select": "val_loss"}
    first = fit(new_tiny(), quarters, "frozen", **options).history
    second = fit(new_tiny(), quarters, "frozen", TrainingConfig(**options)).history
    assert [row["val_loss"] for row in first] == [row["val_loss"] for row in second]


def test_neutral_options_do_not_count_for_the_identity():
    config = TrainingConfig()
    others = {
        "feed": "stream",
        "checkpoint_steps": 7,
        "cache": CacheSettings(memory=1.0),
    }
    assert flatten(config) == flatten(replace(config, **others))
    for changed in ({"seed": 1}, {"cache": CacheSettings(views=2)}):
        assert flatten(config) != flatten(replace(config, **changed))


def test_a_plan_leaves_out_what_no_step_depends_on(new_tiny):
    from jaxmed.strategies import create_strategy

    phase = create_strategy("frozen", new_tiny()).phases[0]
    plans = [
        StepPlan.of(TrainingConfig(seed=seed, ema=0.5), phase=phase, task="binary")
        for seed in (0, 1)
    ]
    assert plans[0] == plans[1]
    assert hash(plans[0]) == hash(plans[1])
    assert plans[0].ema == 0.5
