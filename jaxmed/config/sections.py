"""Tables as TOML gives them to the dataclasses of `config`, strictly."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_origin

from jaxmed.config.schema import ExperimentConfig
from jaxmed.config.setting import check_range, is_section
from jaxmed.errors import InputError
from jaxmed.runtime.annotations import expect

NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
}


def build_config(table: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Build a configuration from nested tables.

    Args:
        table: as `tomllib` gives it; tables and keys that are left out take their
            defaults.
        where: the file or the command line it came from, for messages.

    Raises:
        InputError: an unknown or missing key, a value of another type or outside its
            range.
    """
    return build_section(ExperimentConfig, table, where)


def unknown_key(key: str, known: list[str], table: str, where: str) -> InputError:
    """Return the error for a key that `table` does not have."""
    location = f"[{table}]" if table else "the top level"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return InputError(f"{where}: unknown key {key!r} in {location}. {hint}")


def build_section(
    schema: type, table: Any, where: str, path: tuple[str, ...] = ()
) -> Any:
    """Build one table of a configuration, and those below it.

    Args:
        schema: the table's dataclass.
        table: as `tomllib` gives it.
        where: see `build_config`.
        path: the keys that lead to the table.

    Raises:
        InputError: as `build_config`.
    """
    key = ".".join(path)
    if not isinstance(table, Mapping):
        raise _ill_typed(where, key, "a table", table)
    known = {f.name: f for f in fields(schema)}
    for name in table:
        if name not in known:
            beside = [] if path else ["arms", "expect"]
            raise unknown_key(name, [*known, *beside], key, where)
    values = {}
    for name, declared in known.items():
        inner = (*path, name)
        if is_section(declared.type):
            section: Any = declared.type
            values[name] = build_section(section, table.get(name, {}), where, inner)
        elif name in table:
            values[name] = _check(declared, table[name], where, ".".join(inner))
        elif declared.default is MISSING and declared.default_factory is MISSING:
            doc = declared.metadata["doc"]
            raise InputError(f"{where}: {'.'.join(inner)} is missing: {doc}.")
    return schema(**values)


def _check(declared: Field, value: Any, where: str, key: str) -> Any:
    """Return the value in the field's type, or raises."""
    type_hint: Any = declared.type
    if get_origin(type_hint) is tuple:
        (item, _) = get_args(type_hint)
        if not isinstance(value, list | tuple):
            raise _ill_typed(where, key, f"a list, each {NAMES[item]}", value)
        for element in value:
            _check_type(item, element, where, f"each of {key}")
            check_range(declared, element, f"{where}: each of {key}")
        if item is not float and len(set(value)) < len(value):
            raise InputError(f"{where}: {key} names something twice: {value}.")
        if item is int and not value:
            raise InputError(f"{where}: {key} is empty; give at least one.")
        return tuple(map(item, value))
    _check_type(get_origin(type_hint) or type_hint, value, where, key)
    if get_origin(type_hint) is dict:
        _check_plain(value, where, key)
    check_range(declared, value, f"{where}: {key}")
    return float(value) if type_hint is float else value


def _check_type(expected: type, value: Any, where: str, key: str) -> None:
    accepted: Any = (int, float) if expected is float else expected
    # True is an int to Python, but not to anyone who writes a recipe.
    if isinstance(value, bool) != (expected is bool) or not isinstance(value, accepted):
        raise _ill_typed(where, key, NAMES[expected], value)
    if expected in (int, float):
        expect(expected, value, f"{where}: {key}")


def _check_plain(value: Any, where: str, key: str) -> None:
    """Check what a strategy of one's own may take: it is to be written again."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_plain(inner, where, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(inner, where, f"each of {key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number_type = float if isinstance(value, float) else int
        expect(number_type, value, f"{where}: {key}")
    elif not isinstance(value, str | bool):
        expected = "a text, a number, true or false, a list or a table"
        raise _ill_typed(where, key, expected, value)


def _ill_typed(where: str, key: str, expected: str, got: Any) -> InputError:
    return InputError(f"{where}: {key} must be {expected}, got {got!r}.")
