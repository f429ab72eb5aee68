"""The help names every strategy there is, and `list --strategies` explains them."""

import re
from dataclasses import fields

import pytest

from jaxmed.config.schema import TrainConfig
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.printing.strategies import read_section
from jaxmed.strategies import Optimizer, Phase, Schedule, Settings, options_of
from jaxmed.strategies.presets import BUILT_IN
from jaxmed.strategies.registry import find_strategy


def listed(capsys, *words):
    assert main(["list", "--strategies", *words]) == 0
    return capsys.readouterr().out


def test_help_names_every_preset():
    (declared,) = (f for f in fields(TrainConfig) if f.name == "strategy")
    for name in BUILT_IN:
        assert re.search(rf"\b{name}[, ]", declared.metadata["doc"]), name


def test_list_shows_every_preset_with_its_options(capsys):
    text = listed(capsys)
    assert max(map(len, text.splitlines())) <= 88
    for name in BUILT_IN:
        (block,) = re.findall(rf"^  {name}\n((?:      .*\n)+)", text, re.MULTILINE)
        words = " ".join(block.split())
        assert words.startswith((find_strategy(name).__doc__ or "").splitlines()[0])
        for option, parameter in options_of(name).parameters.items():
            if option not in Settings.__annotations__:
                assert f"{option} = " in words or parameter.default is parameter.empty
    assert "head_epochs = 3, head_learning_rate = 0.001, epochs = 5" in text


def test_list_explains_every_setting_and_attribute_of_a_schedule(capsys):
    _, settings, schedules = re.split(r"^S\w+: ", listed(capsys), flags=re.M)[1:]
    for part, names in (
        (settings, Settings.__annotations__),
        (schedules, [field.name for field in fields(Schedule)]),
    ):
        entries = re.findall(r"^  (\w+)(?: \(.*\))?\n      \S", part, re.MULTILINE)
        assert entries == list(names)
    # From where it is said, not from "see `Optimizer`".
    assert "without dampening" in settings
    assert "weight_decay (a number; default 0.0)" in settings
    assert "see `" not in settings


@pytest.mark.parametrize("documented", [Optimizer, Phase, Schedule])
def test_every_attribute_of_a_docstring_is_read(documented):
    meanings = read_section(documented, "Attributes")
    assert list(meanings) == [field.name for field in fields(documented)]
    assert not any("\n" in meaning for meaning in meanings.values())


def test_one_strategy_is_shown_with_its_whole_docstring(capsys):
    text = listed(capsys, "discriminative")
    assert "rates = [1e-05, 1e-05, 0.0001, 0.0001, 0.001], stages_per_gr" in text
    assert "Howard and Ruder" in text
    assert "by default adamw with a weight decay of 1e-4" in text
    assert "`list --strategies` tells about the settings" in text


def test_an_unknown_strategy_cannot_be_shown(capsys):
    assert main(["list", "--strategies", "partal"]) == 2
    assert "Did you mean 'partial'?" in capsys.readouterr().err
