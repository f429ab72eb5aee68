"""Any field of the configuration as a flag."""

import difflib
import re
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, get_origin

from jaxmed.config.schema import ExperimentConfig, sections
from jaxmed.config.setting import is_section
from jaxmed.errors import InputError

OPTIONS = "train.options."


def take_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the flags of the configuration out of a command line.

    `--train.batch-size 16`, `--train.batch_size=16` and so on are for all arms,
    `--arms.NAME.train.batch-size 16` for one, and `--sets.NAME.data.source npz:a.npz`
    for one set of a recipe of several; tables are nested as in a recipe. A list is
    written with commas. In an option that is a list of tables, one of them is
    named by its number, from 1: `--train.options.phases.2.epochs 3`. Values are not
    checked here.

    Returns:
        The arguments that are left, and the values as nested tables.

    Raises:
        InputError: an unknown field, a flag without a value or given twice.
    """
    known = _fields()
    rest: list[str] = []
    overrides: dict[str, Any] = {}
    seen = set()
    words = iter(argv)
    for word in words:
        flag, equals, text = word.partition("=")
        owner, key = _split_flag(flag)
        if not flag.startswith("--") or ("." not in flag and key not in known):
            rest.append(word)
            continue
        if key not in known and not _is_option(key):
            raise _unknown_flag(flag, list(known))
        if not equals:
            text = next(words, None)
        if text is None or (not equals and text.startswith("--")):
            raise InputError(f"{flag} needs a value.")
        if (owner, key) in seen:
            raise InputError(f"{flag} is given twice.")
        seen.add((owner, key))
        path = [*owner, *key.split(".")]
        if not _set(overrides, path, _parse(text, known.get(key))):
            raise InputError(f"{flag} is given both as a whole and in part.")
    return rest, overrides


def _split_flag(flag: str) -> tuple[tuple[str, ...], str]:
    """Return whose a flag is, () or ("arms", NAME), and the field's dotted key."""
    name = flag.removeprefix("--")
    # A name may hold dots and dashes, so the table behind it marks its end.
    tables = "|".join(sections())
    of_one = re.fullmatch(rf"(arms|sets)\.(.+?)\.((?:{tables})\..+)", name)
    *owner, key = of_one.groups() if of_one else (name,)
    return tuple(owner), key.replace("-", "_")


def describe_fields() -> str:
    """Return the help: every field with its flag, default and meaning."""
    lines = []
    for table, schema in sections().items():
        meaning = (schema.__doc__ or "").split("\n")[0]
        lines += ["", f"[{table}] {meaning}"]
        for declared in fields(schema):
            lines += _describe(f"{table}.", declared)
    lines += ["", "[experiment] What the whole recipe is."]
    for declared in fields(ExperimentConfig):
        if not is_section(declared.type):
            lines += _describe("", declared)
    return "\n".join(lines[1:])


def _describe(prefix: str, declared: Field) -> list[str]:
    flag = f"--{prefix}{declared.name}".replace("_", "-")
    type_hint: Any = declared.type
    if type_hint is dict or get_origin(type_hint) is dict:
        flag, shape = f"{flag}.NAME", "VALUE"
    elif get_origin(type_hint) is tuple:
        shape = "A,B,..."
    else:
        shapes = {int: "INT", float: "NUMBER", bool: "true|false"}
        shape = shapes.get(type_hint, "TEXT")
    choices = declared.metadata.get("choices")
    if choices and "(" not in declared.metadata["doc"]:
        shape = "|".join(map(str, choices))
    text = f"{declared.metadata['doc']} ({_default(declared)})"
    wrapped = textwrap.wrap(text, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return [f"  {flag} {shape}", *wrapped]


def _default(declared: Field) -> str:
    if declared.default is MISSING:
        return "default: none given" if declared.name == "options" else "required"
    value = declared.default
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    return f"default: {value}" if value != "" else "default: empty"


def _fields() -> dict[str, Field]:
    """Return every field that is a value, by its dotted key."""
    known = {f.name: f for f in fields(ExperimentConfig) if not is_section(f.type)}
    for table, schema in sections().items():
        known |= {f"{table}.{f.name}": f for f in fields(schema)}
    # Set one by one, as --train.options.NAME.
    del known["train.options"]
    return known


def _is_option(key: str) -> bool:
    words = key.removeprefix(OPTIONS).split(".")
    return (
        key.startswith(OPTIONS)
        and words[0].isidentifier()
        and all(word.isidentifier() or word.isdecimal() for word in words)
    )


def _unknown_flag(flag: str, known: list[str]) -> InputError:
    flags = [f"--{key}".replace("_", "-") for key in known]
    near = difflib.get_close_matches(flag.replace("_", "-"), flags, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else "`run --help` lists all flags."
    return InputError(f"Unknown flag {flag}. {hint}")


def split_list(text: str) -> list[str]:
    """Read "A, B", the items of a flag that takes several."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _parse(text: str, declared: Field | None) -> Any:
    """Read a value: for a text field as it stands, otherwise as TOML where it is."""
    type_hint: Any = declared.type if declared else None
    if type_hint is str:
        return text
    if get_origin(type_hint) is tuple:
        items = split_list(text)
        return (
            items if type_hint == tuple[str, ...] else [_toml(item) for item in items]
        )
    value = _toml(text)
    if type_hint is None and value == text and "," in text:
        # An option of a strategy, whose type is not known here.
        items = _toml(f"[{text}]")
        return items if isinstance(items, list) else text
    return value


def _toml(text: str) -> Any:
    if "\n" in text or "#" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(table: Any, keys: list[str], value: Any) -> bool:
    """Set a value in nested tables; not where the way there is a value already."""
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            return False
    return table.setdefault(keys[-1], value) is value
