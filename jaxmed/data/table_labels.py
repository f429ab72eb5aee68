"""Labels from the cells of a table: classes in one column, or 0 and 1 in several.

What is wrong with a cell is noted in `bad`, the reasons by row, so that one sentence
can name all rows; an earlier reason stays.
"""

from collections.abc import Sequence

import numpy as np

from jaxmed.errors import InputError

# Spellings, in lower case, of a cell without a value.
MISSING = ("", "nan", "na", "n/a", "null")
TRUTH = {"true": 1.0, "false": 0.0}


def check_classes(
    cells: Sequence[str], column: str, where: str, bad: dict[int, str]
) -> None:
    """Notes the cells of a column of classes that name none.

    Raises:
        InputError: some cells are numbers and others are not.
    """
    present = [cell for cell in cells if cell.lower() not in MISSING]
    numbers = {cell: value for cell in present if (value := _number(cell)) is not None}
    texts = sorted(set(present) - numbers.keys())
    if numbers and texts:
        raise InputError(
            f"{where}: the labels in column {column!r} mix numbers, such as "
            f"{next(iter(numbers))}, and texts, such as {texts[0]!r}. Write all in one "
            "way."
        )
    for i, cell in enumerate(cells):
        if cell.lower() in MISSING:
            bad.setdefault(i, f"no {column}")
        elif numbers and not (numbers[cell].is_integer() and numbers[cell] >= 0):
            bad.setdefault(i, f"{column} is {cell}, no whole number from 0 up")


def index_classes(cells: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the classes in sorted order, numbers by value, and labels int32 (n,)."""
    numbers = [_number(cell) for cell in cells]
    values = [
        cell if number is None else int(number)
        for cell, number in zip(cells, numbers, strict=True)
    ]
    classes = sorted(set(values))
    index = {value: label for label, value in enumerate(classes)}
    labels = np.array([index[value] for value in values], np.int32)
    return tuple(map(str, classes)), labels


def check_flags(cells: Sequence[str], column: str, bad: dict[int, str]) -> None:
    """Notes the cells of one column of flags that are neither 0 nor 1."""
    for i, cell in enumerate(cells):
        if cell.lower() in MISSING:
            bad.setdefault(
                i,
                f"no {column}, and masked labels are not supported yet: drop the row "
                "or fill it",
            )
        elif _flag(cell) not in (0, 1):
            bad.setdefault(i, f"{column} is {cell}, and not 0 or 1")


def stack_flags(columns: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns labels int32 (n, k) of k columns of flags."""
    flags = [[_flag(cell) for cell in column] for column in columns]
    return np.array(flags, np.int32).T


def _flag(cell: str) -> float | None:
    return TRUTH.get(cell.lower(), _number(cell))


def _number(cell: str) -> float | None:
    # float() takes "1_0", "inf" and the like as well, which are no labels.
    if not cell or not set(cell) <= set("0123456789+-.eE"):
        return None
    try:
        return float(cell)
    except ValueError:
        return None
