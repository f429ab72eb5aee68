"""Published numbers in a recipe: [[expect]] of an arm, [published] of several sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from jaxmed.config.sections import unknown_key
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.annotations import fits

METRICS = ("auroc", "accuracy")  # of [published]


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


@dataclass(frozen=True, kw_only=True)
class PublishedResults:
    """Published numbers on several sets, [published].

    Attributes:
        source: where they are published; empty if there are none.
        note: what has to be known of them.
        methods: what they are of, such as "ResNet-18 (28)".
        numbers: metric -> set -> a number for each method, None for what is not
            published.
    """

    source: str = ""
    note: str = ""
    methods: tuple[str, ...] = ()
    numbers: Mapping[str, Mapping[str, list[float | None]]] = field(
        default_factory=dict
    )

    def of(self, metric: str, name: str) -> list[float | None]:
        """Return the numbers of a set, one for each method."""
        nothing: list[float | None] = [None] * len(self.methods)
        return self.numbers.get(metric, {}).get(name, nothing)


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


def read_published_results(
    table: Any, sets: Sequence[str], where: str
) -> PublishedResults:
    """Read the table [published] of a recipe of several sets.

    Args:
        table: as `tomllib` gives it, {"source", "note", "methods", metric: {set:
            numbers}}, where nan is what is not published; empty if there is none.
        sets: the names of the recipe's sets.
        where: the recipe's file, for messages.

    Raises:
        InputError: a key or a set is unknown, or a value has another type.
    """
    if not table:
        return PublishedResults()
    where = f"{where}, [published]"
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: it must be a table.")
    texts = ("source", "note")
    for key in table:
        if key not in (*texts, "methods", *METRICS):
            raise unknown_key(key, [*texts, "methods", *METRICS], "published", where)
    for key in texts:
        if not isinstance(table.get(key, ""), str):
            raise InputError(f"{where}: {key} must be a text.")
    if "source" not in table:
        raise InputError(f"{where}: source is missing: where the numbers are from.")
    methods = table.get("methods", [])
    if not isinstance(methods, list) or not all(isinstance(m, str) for m in methods):
        raise InputError(f"{where}: methods must be a list of texts.")
    numbers: dict[str, dict[str, list[float | None]]] = {}
    for metric in METRICS:
        by_set = table.get(metric, {})
        if not isinstance(by_set, Mapping):
            raise InputError(f"{where}: {metric} must be a table, a row for each set.")
        numbers[metric] = {}
        for name, row in by_set.items():
            if name not in sets:
                raise unknown(f"set in {where}, {metric}:", name, sets)
            row = _read_row(row, len(methods), f"{where}: {metric}.{name}")
            numbers[metric][name] = row
    return PublishedResults(
        source=table["source"],
        note=table.get("note", ""),
        methods=tuple(methods),
        numbers=numbers,
    )


def _read_row(row: Any, size: int, where: str) -> list[float | None]:
    values = row if isinstance(row, list) else [row]
    if len(values) != size or not all(type(value) in (int, float) for value in values):
        raise InputError(
            f"{where} must be a list of {size} numbers, one for each of methods (nan "
            f"for what is not published), got {row!r}."
        )
    return [None if value != value else float(value) for value in values]
