"""Labels from the cells of a table: classes in one column, or 0 and 1 in several.

What is wrong with a cell is noted in `bad`, the reasons by row, so that one sentence
can name all rows; an earlier reason stays.
"""

from collections.abc import Sequence

import numpy as np

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError

# Spellings, in lower case, of a cell without a value.
EMPTY = ("", "nan", "na", "n/a", "null")
TRUTH = {"true": 1.0, "false": 0.0}


def is_empty(cell: str) -> bool:
    """Tells whether a cell has no value."""
    return cell.lower() in EMPTY


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
    numbers = {cell: value for cell in present if (value := _number(cell)) is not None}
    texts = sorted(set(present) - numbers.keys())
    if numbers and texts:
        raise InputError(
            f"{where}: the labels in column {column!r} mix numbers, such as "
            f"{next(iter(numbers))}, and texts, such as {texts[0]!r}. Write all in one "
            "way."
        )
    for i, cell in enumerate(cells):
        if is_empty(cell):
            bad.setdefault(i, f"no {column}")
        elif numbers and not (numbers[cell].is_integer() and numbers[cell] >= 0):
            bad.setdefault(i, f"{column} is {cell}, no whole number from 0 up")


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
    numbers = [_number(cell) for cell in cells]
    values = [
        cell if number is None else int(number)
        for cell, number in zip(cells, numbers, strict=True)
    ]
    found = sorted(set(values))
    index = {value: label for label, value in enumerate(found)}
    labels = np.array([index[value] for value in values], np.int32)
    return tuple(map(str, found)), labels


def _find_labels(cells: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """Returns each cell's place among given classes, or None."""
    names = {name: label for label, name in enumerate(classes)}
    values = {_number(name): label for name, label in names.items()}
    values.pop(None, None)
    # Classes without a number among them are names of grades.
    places = values or {float(label): label for label in range(len(classes))}
    return [names.get(cell, places.get(_number(cell))) for cell in cells]


def check_grades(class_names: Sequence[str], column: str, where: str) -> None:
    """Checks that the order of classes is told by their names.

    Raises:
        InputError: they are not 0, 1, 2, ... without a gap.
    """
    if list(class_names) != [str(grade) for grade in range(len(class_names))]:
        raise InputError(
            f"{where}: the grades in column {column!r} are {', '.join(class_names)}, "
            "and not 0, 1, 2, ... without a gap. Say all classes in their order in the "
            "source, as in 'classes=none,mild,severe'."
        )


def check_flags(cells: Sequence[str], column: str, bad: dict[int, str]) -> None:
    """Notes the cells of one column of flags that are neither 0 nor 1, nor empty."""
    for i, cell in enumerate(cells):
        if not is_empty(cell) and _flag(cell) not in (0, 1):
            bad.setdefault(
                i, f"{column} is {cell}, and not 0 or 1, nor empty where not known"
            )


def stack_flags(columns: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns labels int32 (n, k) of k columns of flags, `MISSING` if empty."""
    flags = [
        [MISSING if is_empty(cell) else _flag(cell) for cell in column]
        for column in columns
    ]
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
