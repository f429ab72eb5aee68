"""Reading TOML files, and writing what a configuration can hold."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a file.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error


def format_toml(table: Mapping[str, Any]) -> str:
    """Writes nested tables, lists of tables, lists, texts, numbers and booleans.

    `tomllib.loads` gives the same table back; floats keep every digit.
    """
    return "\n".join(_lines(table, ())).strip() + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping) and not _is_tables(value)
    ]
    for key, value in table.items():
        inner = (*path, key)
        header = ".".join(map(_key, inner))
        if isinstance(value, Mapping):
            lines += ["", f"[{header}]", *_lines(value, inner)]
        elif _is_tables(value):
            for entry in value:
                lines += ["", f"[[{header}]]", *_lines(entry, inner)]
    return lines


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(item, Mapping) for item in value)
    )


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    assert isinstance(value, str), f"no TOML for {value!r}"
    return _text(value)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, except that JSON leaves DEL as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
