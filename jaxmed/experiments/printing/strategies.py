"""Strategies, their options, settings and schedules as text, from their docstrings."""

import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_type_hints

from jaxmed.runtime.annotations import describe_annotation
from jaxmed.strategies import Optimizer, Phase, Schedule, Settings, options_of
from jaxmed.strategies.presets import BUILT_IN
from jaxmed.strategies.registry import find_strategy, installed_strategies

WIDTH = 88
CLASSES = {cls.__name__: cls for cls in (Optimizer, Phase, Schedule)}
OPENING = """\
Strategies: train.strategy in a recipe, --train.strategy as a flag. Their options, shown
with their defaults, are train.options in a recipe and --train.options.NAME as flags.
`list --strategies NAME` tells all about one, your own package.module:function included.
"""
SETTINGS = """
Settings: options that every preset takes beside its own, with the defaults where a
preset does not say otherwise.
"""
SCHEDULES = """
Schedules: the setting `schedule` is a name, such as "cosine", or a table of what
follows, such as { name = "cosine", warmup_epochs = 1 }.
"""


def describe_strategies() -> str:
    """Return all presets and installed strategies, settings and schedules."""
    blocks = [OPENING]
    for name in (*BUILT_IN, *installed_strategies()):
        blocks.append(f"  {name}")
        try:
            title = inspect.getdoc(find_strategy(name)) or ""
            blocks += [*_fill(title.partition("\n")[0]), *_fill(_options(name))]
        except Exception as error:
            # Of an installed package; the others can be shown without it.
            blocks += _fill(f"cannot be loaded: {type(error).__name__}: {error}")
    defaults = _defaults()
    blocks.append(SETTINGS)
    for key, hint in get_type_hints(Settings).items():
        blocks += _entry(key, hint, defaults.get(key), _meaning(key))
    blocks.append(SCHEDULES)
    meanings, hints = read_section(Schedule, "Attributes"), get_type_hints(Schedule)
    for field in fields(Schedule):
        name = field.name
        blocks += _entry(name, hints[name], field.default, meanings[name])
    return "\n".join(blocks)


def describe_strategy(name: str) -> str:
    """Return the options and the whole docstring of one.

    Raises:
        InputError: there is no such strategy.
    """
    parts = [
        name,
        f"Options: {_options(name) or 'none'}",
        inspect.getdoc(find_strategy(name)) or "It has no docstring.",
    ]
    if len(_specific_options(name)) < len(options_of(name).parameters):
        parts.append("`list --strategies` tells about the settings it also takes.")
    return "\n\n".join(parts)


def read_section(documented: Any, title: str) -> dict[str, str]:
    """Read a section of a docstring, such as "Attributes", by the names in it."""
    meanings: dict[str, str] = {}
    names: list[str] = []
    _, _, section = (inspect.getdoc(documented) or "").partition(f"\n{title}:\n")
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        entry = re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            meanings |= dict.fromkeys(names, entry[2])
        else:
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    return meanings


def _meaning(key: str) -> str:
    """What a setting means; where `Settings` says "see `Phase`", what that says."""
    text = read_section(Settings, "Attributes")[key]
    other = re.fullmatch(r"see `(\w+)(?:\.(\w+))?`\.", text)
    if not other:
        return text
    return read_section(CLASSES[other[1]], "Attributes")[other[2] or key]


def _defaults() -> dict[str, Any]:
    defaults = {f.name: f.default for cls in (Optimizer, Phase) for f in fields(cls)}
    return defaults | {"optimizer": Optimizer.name, "schedule": Schedule.name}


def _specific_options(name: str) -> list[inspect.Parameter]:
    """The options that are no settings."""
    settings = get_type_hints(Settings)
    return [
        parameter
        for key, parameter in options_of(name).parameters.items()
        if key not in settings or parameter.default is not None
    ]


def _options(name: str) -> str:
    options = []
    for parameter in _specific_options(name):
        if parameter.kind is parameter.VAR_KEYWORD:
            options.append("any others")
        elif parameter.default is parameter.empty:
            type_text = describe_annotation(parameter.annotation)
            options.append(
                f"{parameter.name} ({type_text + ', ' if type_text else ''}required)"
            )
        else:
            options.append(f"{parameter.name} = {_value(parameter.default)}")
    return ", ".join(options)


def _entry(name: str, hint: Any, default: Any, meaning: str) -> Iterable[str]:
    words = [
        describe_annotation(hint),
        "" if default is None else f"default {_value(default)}",
    ]
    details = "; ".join(filter(None, words))
    return [f"  {name}" + (f" ({details})" if details else ""), *_fill(meaning)]


def _value(value: Any) -> str:
    """Write a default as TOML does, as far as it can be."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _fill(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )
