"""Labels from the cells of a table: classes in one column, or 0 and 1 in several.

What is wrong with a cell is noted in `bad`, the reasons by row, so that one sentence
can name all rows; an earlier reason stays.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError

# Spellings, in lower case, of a cell without a value.
EMPTY = ("", "nan", "na", "n/a", "null")
TRUTH = {"true": 1.0, "false": 0.0}
# CheXpert's word for a finding that may be there or not, and what becomes of it.
UNCERTAIN = -1
POLICIES = ("ignore", "zeros", "ones", "error")
# No exponent: "1E50" is a code. No more digits than a float holds.
NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d*)?|\.\d+)", re.ASCII)


def is_empty(cell: str) -> bool:
    """Tells whether a cell has no value."""
    return cell.lower() in EMPTY


def merge_spellings(names: Iterable[str]) -> dict[str, str]:
    """Returns one spelling for names that differ in case or spaces alone.

    Args:
        names: as often as they occur; the commonest spelling is taken, and of equally
            common ones the first in order.
    """
    counts = Counter(names)
    chosen: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        chosen.setdefault(_fold(name), name)
    return {name: chosen[_fold(name)] for name in counts}


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())


def check_classes(
    cells: Sequence[str],
    column: str,
    where: str,
    bad: dict[int, str],
    classes: Sequence[str] = (),
) -> None:
    """Notes the cells of a column of classes that name none.

    Args:
        cells: of the column.
        column, where: its name, and that of the table, for sentences.
        bad: gets the reasons.
        classes: what there is; empty for what the cells say, see `index_classes`.

    Raises:
        InputError: some cells are numbers and others are not, without `classes`.
    """
    if classes:
        for i, (cell, label) in enumerate(
            zip(cells, _find_labels(cells, classes), strict=True)
        ):
            if is_empty(cell):
                bad.setdefault(i, f"no {column}")
            elif label is None:
                bad.setdefault(i, f"{column} is {cell}, and not in classes")
        return
    present = [cell for cell in cells if not is_empty(cell)]
    numbers = _numbers(present)
    texts = sorted(set(present) - numbers.keys())
    if numbers and texts:
        raise InputError(
            f"{where}: the labels in column {column!r} mix numbers, such as "
            f"{next(iter(numbers))}, and texts, such as {texts[0]!r}. Write all in one "
            "way, or say all classes in their order, as in 'classes=1,2,4A'."
        )
    for i, cell in enumerate(cells):
        if is_empty(cell):
            bad.setdefault(i, f"no {column}")
        elif numbers and not (numbers[cell].is_integer() and numbers[cell] >= 0):
            uncertain = (
                "; uncertain=ignore makes it a label that can be unknown"
                if numbers[cell] == UNCERTAIN
                else ""
            )
            bad.setdefault(
                i, f"{column} is {cell}, no whole number from 0 up{uncertain}"
            )


def index_classes(
    cells: Sequence[str], classes: Sequence[str] = ()
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns classes and labels of cells that `check_classes` has passed.

    Args:
        cells: of the column.
        classes: all of them in their order. Cells hold these names or, if none of them
            is a number, the numbers 0, 1, 2, ... in their place. Empty for the cells in
            sorted order, numbers by value.

    Returns:
        The classes, and labels int32 (n,).
    """
    if classes:
        return tuple(classes), np.array(_find_labels(cells, classes), np.int32)
    numbers, names = _numbers(cells), merge_spellings(cells)
    values = [int(numbers[cell]) if numbers else names[cell] for cell in cells]
    distinct = sorted(set(values))
    index = {value: label for label, value in enumerate(distinct)}
    labels = np.array([index[value] for value in values], np.int32)
    return tuple(map(str, distinct)), labels


def _find_labels(cells: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """Returns each cell's place among given classes, or None."""
    names = {name: label for label, name in enumerate(classes)}
    folded = {_fold(name): label for name, label in names.items()}
    if len(folded) < len(names):
        # Classes that differ in case are told apart.
        folded = names
    values = {_number(name): label for name, label in names.items()}
    values.pop(None, None)
    # Classes without a number among them are names of grades.
    by_number = values or {float(label): label for label in range(len(classes))}
    return [
        names.get(cell, folded.get(_fold(cell), by_number.get(_number(cell))))
        for cell in cells
    ]


def check_flags(
    cells: Sequence[str], column: str, bad: dict[int, str], policy: str
) -> None:
    """Notes the cells of one column of flags that are none.

    Args:
        cells: 0, 1, -1 if it is not certain which, or empty.
        column: its name.
        bad: gets the reasons.
        policy: what becomes of -1, of `POLICIES`.
    """
    allowed = (0, 1) if policy == "error" else (0, 1, UNCERTAIN)
    for i, cell in enumerate(cells):
        if not is_empty(cell) and _flag(cell) not in allowed:
            bad.setdefault(
                i,
                f"{column} is {cell}, and not 0 or 1, nor {UNCERTAIN} where it is "
                "uncertain, nor empty where not known",
            )


def stack_flags(
    columns: Sequence[Sequence[str]], policy: str = "ignore", blank: str = "ignore"
) -> np.ndarray:
    """Returns labels int32 (n, k) of k columns of flags.

    Args:
        columns: of cells that `check_flags` has passed.
        policy: what -1 becomes: `MISSING` ("ignore"), 0 or 1.
        blank: what an empty cell becomes, in the same way.
    """
    becomes = {"ignore": MISSING, "zeros": 0, "ones": 1}
    values = {UNCERTAIN: becomes.get(policy, MISSING), 0: 0, 1: 1, None: becomes[blank]}
    # `check_flags` has passed what is neither a number nor empty.
    flags = [[values[_flag(cell)] for cell in column] for column in columns]
    return np.array(flags, np.int32).T


def count_uncertain(columns: Sequence[Sequence[str]]) -> int:
    """Counts the cells of flags that say -1."""
    return sum(_flag(cell) == UNCERTAIN for column in columns for cell in column)


def spell_label(cell: str) -> object:
    """Returns what two cells have in common if they say the same."""
    flag = _flag(cell)
    return _fold(cell) if flag is None else flag


def _flag(cell: str) -> float | None:
    return TRUTH.get(cell.lower(), _number(cell))


def _numbers(cells: Iterable[str]) -> dict[str, float]:
    """Returns the values of cells that are numbers; none if one is a code.

    "007" and "7" are two codes, and "1E50" is one of ICD-11, not 1 with 50 zeros.
    """
    present = set(cells)
    codes = any(len(cell) > 1 and cell[0] == "0" for cell in present)
    if codes and all(cell.isascii() and cell.isdigit() for cell in present):
        return {}
    return {cell: value for cell in cells if (value := _number(cell)) is not None}


def _number(cell: str) -> float | None:
    return float(cell) if NUMBER.fullmatch(cell) else None
