import pytest

from jaxmed.config.schema import ExperimentConfig
from jaxmed.config.sections import build_config
from jaxmed.errors import InputError

BASE = {"name": "mine", "data": {"source": "cells"}}


def message(**tables) -> str:
    with pytest.raises(InputError) as caught:
        build_config(BASE | tables, "mine.toml")
    return str(caught.value)


def test_tables_that_are_left_out_take_their_defaults():
    config = build_config(BASE, "mine.toml")
    assert isinstance(config, ExperimentConfig)
    assert config.data.source == "cells"
    assert config.train.seeds == (0,)
    assert config.train.options == {}


def test_values_take_the_type_of_their_field():
    tables = {"model": {"dropout": 0}, "train": {"seeds": [2, 1]}}
    tables["model"]["std"] = [1, 1, 0.5]
    config = build_config(BASE | tables, "mine.toml")
    assert isinstance(config.model.dropout, float)
    assert config.model.std == (1.0, 1.0, 0.5)
    assert all(isinstance(number, float) for number in config.model.std)
    assert config.train.seeds == (2, 1)


def test_unknown_key_suggests_the_nearest_and_names_the_table():
    said = message(train={"batchsize": 3})
    assert said == (
        "mine.toml: unknown key 'batchsize' in [train]. Did you mean 'batch_size'?"
    )


def test_unknown_table_suggests_the_nearest():
    assert "unknown key 'modle' in the top level. Did you mean 'model'?" in message(
        modle={}
    )


def test_unknown_key_like_no_other_lists_all():
    said = message(data={"zzz": 1})
    assert "Known: source, image_size, resize, resize_factor, train_images, " in said


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"train": {"batch_size": "many"}},
            "train.batch_size must be a whole number, got 'many'.",
        ),
        (
            {"train": {"batch_size": 2.0}},
            "train.batch_size must be a whole number, got 2.0.",
        ),
        (
            {"train": {"batch_size": True}},
            "train.batch_size must be a whole number, got True.",
        ),
        ({"data": {"source": 3}}, "data.source must be a text, got 3."),
        ({"model": {"dropout": "x"}}, "model.dropout must be a number, got 'x'."),
        ({"train": {"options": 1}}, "train.options must be a table, got 1."),
        ({"train": 1}, "train must be a table, got 1."),
        (
            {"train": {"seeds": 1}},
            "train.seeds must be a list, each a whole number, got 1.",
        ),
        (
            {"train": {"seeds": ["a"]}},
            "each of train.seeds must be a whole number, got 'a'.",
        ),
    ],
)
def test_ill_typed_values_say_key_expected_and_got(tables, expected):
    assert message(**tables) == f"mine.toml: {expected}"


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"train": {"batch_size": 0}}, "train.batch_size must be at least 1, got 0."),
        ({"model": {"dropout": 1.0}}, "model.dropout must be below 1, got 1.0."),
        ({"model": {"dropout": float("nan")}}, "must be a finite number, got nan."),
        ({"train": {"seeds": [-1]}}, "each of train.seeds must be at least 0, got -1."),
        ({"train": {"seeds": []}}, "train.seeds is empty"),
        ({"train": {"seeds": [1, 1]}}, "train.seeds names something twice"),
        (
            {"model": {"head": "lineal"}},
            "model.head must be one of linear, dropout, hidden; got 'lineal'. "
            "Did you mean 'linear'?",
        ),
    ],
)
def test_values_out_of_range_are_refused(tables, expected):
    assert expected in message(**tables)


def test_a_key_without_default_must_be_given():
    with pytest.raises(InputError, match=r"data\.source is missing: the images"):
        build_config({"name": "mine"}, "mine.toml")
