"""Published numbers in a recipe: its [[expect]] tables."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jaxmed.config.validate import unknown_key
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.annotations import fits


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A published number to compare with.

    Attributes:
        arm: whose number it is.
        metric: its name: a column of history.csv for a list with a value per epoch;
            otherwise "test_auroc", "val_accuracy" and so on, after metrics.json.
        value: a number, or one per epoch.
        source: where it is published.
    """

    arm: str
    metric: str
    value: float | tuple[float, ...]
    source: str


def read_expectations(expect: Any, arms: list[str], where: str) -> list[Expectation]:
    """Read the [[expect]] tables of a recipe.

    Args:
        expect: as `tomllib` gives it.
        arms: the names of the recipe's arms.
        where: the recipe's file, for messages.

    Raises:
        InputError: a key is missing or unknown, or a value has another type.
    """
    if not isinstance(expect, list) or not all(isinstance(e, Mapping) for e in expect):
        raise InputError(f"{where}: expect must be tables, as [[expect]].")
    return [_read(entry, arms, where) for entry in expect]


def _read(entry: Mapping[str, Any], arms: list[str], where: str) -> Expectation:
    known = [f.name for f in fields(Expectation)]
    for key in entry:
        if key not in known:
            raise unknown_key(key, known, "expect", where)
    for key in known:
        if key not in entry:
            raise InputError(f"{where}: an [[expect]] has no {key}.")
        if key != "value" and not isinstance(entry[key], str):
            raise InputError(f"{where}: {key} of an [[expect]] must be a text.")
    if entry["arm"] not in arms:
        raise unknown("arm of an [[expect]]", entry["arm"], arms)
    value = entry["value"]
    numbers = value if isinstance(value, list) else [value]
    if not all(type(n) in (int, float) and fits(float, n) for n in numbers):
        raise InputError(
            f"{where}: value of an [[expect]] must be a number or a list of numbers, "
            f"got {value!r}."
        )
    several = isinstance(value, list)
    return Expectation(**{**entry, "value": tuple(value) if several else value})
