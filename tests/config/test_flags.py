import dataclasses

import pytest

from jaxmed.config.flags import describe_fields, take_overrides
from jaxmed.config.schema import ExperimentConfig, sections
from jaxmed.errors import InputError


def test_flags_become_nested_tables_and_the_rest_is_left():
    words = (
        "run quickstart --train.batch-size 16 --out x --train.seeds=0,2 "
        "--data.source npz:a.npz --train.options.learning-rate 1e-3 "
        "--train.options.optimizer sgd --model.dropout 0.25 --arms a,b"
    )
    rest, overrides = take_overrides(words.split())
    assert rest == ["run", "quickstart", "--out", "x", "--arms", "a,b"]
    assert overrides == {
        "train": {
            "batch_size": 16,
            "seeds": [0, 2],
            "options": {"learning_rate": 1e-3, "optimizer": "sgd"},
        },
        "data": {"source": "npz:a.npz"},
        "model": {"dropout": 0.25},
    }


def test_dashes_and_underscores_are_alike():
    assert take_overrides(["--train.batch_size=8"]) == take_overrides(
        ["--train.batch-size", "8"]
    )


def test_a_flag_can_be_for_one_arm():
    flags = ["--arms.two-phase.v1.train.batch-size", "8", "--train.batch-size=16"]
    _, overrides = take_overrides(flags)
    assert overrides == {
        "train": {"batch_size": 16},
        "arms": {"two-phase.v1": {"train": {"batch_size": 8}}},
    }


def test_a_flag_can_be_for_one_set_of_several():
    flags = ["--sets.breast.v2.data.source", "npz:a.npz", "--sets", "breast.v2"]
    rest, overrides = take_overrides(flags)
    assert rest == ["--sets", "breast.v2"]
    assert overrides == {"sets": {"breast.v2": {"data": {"source": "npz:a.npz"}}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4,1e-3", [1e-4, 1e-3]),
        ("1e-4,", [1e-4]),
        ("[1e-4, 1e-3]", [1e-4, 1e-3]),
        ("layer3, layer4", "layer3, layer4"),
        ("cosine", "cosine"),
        ("{name = 'step', every = 2}", {"name": "step", "every": 2}),
        ("[{strategy = 'full'}, {epochs = 2}]", [{"strategy": "full"}, {"epochs": 2}]),
    ],
)
def test_options_are_lists_and_tables_too(text, value):
    _, overrides = take_overrides(["--train.options.some-thing", text])
    assert overrides == {"train": {"options": {"some_thing": value}}}


def test_a_table_in_an_option_is_changed_by_its_path():
    words = "--train.options.phases.2.learning-rate 1e-3 --train.options.a.b=x"
    _, overrides = take_overrides(words.split())
    options = {"phases": {"2": {"learning_rate": 1e-3}}, "a": {"b": "x"}}
    assert overrides == {"train": {"options": options}}


def test_a_text_stays_a_text():
    _, overrides = take_overrides(["--data.source", "123", "--name=true"])
    assert overrides == {"data": {"source": "123"}, "name": "true"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--train.batchsize", "1"], "Did you mean --train.batch-size?"),
        (["--zzz.qqq", "1"], "`run --help` lists all flags"),
        (["--train.batch-size"], "--train.batch-size needs a value."),
        (["--train.batch-size", "--out", "x"], "--train.batch-size needs a value."),
        (["--train.seeds=1", "--train.seeds=2"], "--train.seeds is given twice."),
        (["--arms.a.train.batchsize", "1"], "Unknown flag --arms.a.train.batchsize"),
        (["--arms.a.name", "b"], "Unknown flag --arms.a.name"),
        (["--train.options", "1"], "Unknown flag --train.options."),
        (["--train.options.1", "1"], "Unknown flag --train.options.1."),
        (["--train.options.a..b", "1"], "Unknown flag --train.options.a..b."),
        (
            ["--train.options.a=1", "--train.options.a.b=2"],
            "--train.options.a.b is given both as a whole and in part.",
        ),
        (
            ["--train.options.a.b=2", "--train.options.a={b = 2}"],
            "--train.options.a is given both as a whole and in part.",
        ),
    ],
)
def test_mistakes_are_sentences(words, expected):
    with pytest.raises(InputError) as caught:
        take_overrides(words)
    assert expected in str(caught.value)


def test_help_has_every_field_with_its_meaning_and_default():
    text = " ".join(describe_fields().split())
    for table, schema in sections().items():
        for field in dataclasses.fields(schema):
            assert f"--{table}.{field.name}".replace("_", "-") in text
            assert field.metadata["doc"] in text
    for field in dataclasses.fields(ExperimentConfig):
        if field.name not in sections():
            assert f"--{field.name} " in text
    assert "(default: 32)" in text
    assert "(required)" in text
