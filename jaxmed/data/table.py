"""`table:PATH`: a CSV or Parquet file with a row for each image.

    path,label,patient,split
    IM-0001.jpeg,NORMAL,17,train
    person1_1.jpeg,PNEUMONIA,1,val

Several columns of 0 and 1 whose names begin with "label_" make a multi-label task.
Columns that go by other names are named behind a question mark, and so is the folder
of the images, where it is not the table's own:

    table:cohort.csv?path=file&label=diagnosis&patient=pid&split=fold&root=../images
    table:cohort.csv?label=Effusion,Nodule,Mass

A cell of such labels that is empty or "NaN" is a label that is not known, which loss
and metrics leave out. Of one column of labels, the classes' order can be said, such as
which of two is the positive, last one, and that they are grades:

    table:cohort.csv?classes=well,ill
    table:cohort.csv?label=grade&task=ordinal&classes=none,mild,severe

Grades that are numbers from 0 up need no classes, and get those as names. All other
columns are left alone, unless they are named to be carried along, as properties of the
images, into what is predicted of them:

    table:cohort.csv?columns=site,sex

"%26" stands for "&" in a name, and "%2C" for a comma, as in addresses.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from jaxmed.data.assembly import ALL, assemble
from jaxmed.data.dataset import (
    MISSING,
    SPLITS,
    Dataset,
    Split,
    Task,
    Unsplit,
)
from jaxmed.data.files import READING, Reading, open_images
from jaxmed.data.read import cannot_use
from jaxmed.data.rows import Rows, read_rows
from jaxmed.data.table_columns import (
    ORDINAL,
    PREFIX,
    Columns,
    find_columns,
    parse_source,
)
from jaxmed.data.table_labels import (
    check_classes,
    check_flags,
    check_grades,
    index_classes,
    is_empty,
    stack_flags,
)
from jaxmed.errors import InputError

# What a split is called, besides its name.
SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


def load_table(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    reading: Reading = READING,
) -> Dataset | Unsplit:
    """Loads `table:PATH`.

    Classes are the labels in sorted order, whole numbers by value, if the source does
    not say another; two make a binary task, of which the second is the positive class.
    Ids are the images' paths, in the order of the rows; groups are the patients, where
    there is a column of them. A table without a column of splits is to be split.

    Args:
        rest: the path of the table, with what stands for its columns; see above.
        cache: the folder for the index of a large set, see `read_index`.
        image_size: what images of different sizes, or larger ones, are brought to;
            see `read_images`.
        reading: how, and what becomes of rows and files that cannot be used.

    Raises:
        InputError: the table cannot be read, a column is missing, rows cannot be used
            (the sentence names them), or a split or a class has no images.
    """
    path, options = parse_source(rest)
    where = f"table:{path}"
    rows = read_rows(path)
    columns = find_columns(rows, options, where)
    root = path.parent / Path(*options.get("root", (".",))).expanduser()
    bad = _check_rows(rows, columns, root, where)
    if bad and not (reading.skips and len(bad) < len(rows.places)):
        reasons = [f"{rows.places[i]} ({bad[i]})" for i in sorted(bad)]
        raise cannot_use(where, reasons, len(rows.places), "rows")
    skipped = {rows.places[i]: bad[i] for i in sorted(bad)}
    rows = rows.take([i for i in range(len(rows.places)) if i not in bad])
    ids = [_spell(cell) for cell in rows.columns[columns.path]]
    groups = rows.columns[columns.patient] if columns.patient else None
    task, class_names, labels = _read_labels(rows, columns, where)
    members = _find_members(rows, columns)
    _check_members(members, labels, task, class_names, where)
    opened = open_images(
        root,
        {split: [ids[i] for i in chosen] for split, chosen in members.items()},
        where=where,
        image_size=image_size,
        reading=reading,
        cache=cache,
    )
    made: dict[str, Any] = {}
    for split, kept in opened.rows.items():
        chosen = [members[split][i] for i in kept]
        made[split] = Split(
            images=opened.images[split],
            labels=labels[chosen],
            ids=tuple(ids[i] for i in chosen),
            groups=None if groups is None else tuple(groups[i] for i in chosen),
            columns=_carry(rows, columns.others, chosen),
        )
    return assemble(
        made,
        name=path.stem,
        source=f"table:{rest}",
        class_names=class_names,
        task=task,
        skipped=skipped | opened.skipped,
    )


def table_has_splits(rest: str) -> bool:
    """Tells whether `table:REST` has a column of splits; looks at no image.

    Raises:
        InputError: as `load_table`, of the table itself.
    """
    path, options = parse_source(rest)
    return find_columns(read_rows(path), options, f"table:{path}").split is not None


def _check_rows(rows: Rows, columns: Columns, root: Path, where: str) -> dict[int, str]:
    """Returns the reason of every row that cannot be used."""
    bad: dict[int, str] = {}
    _check_paths(rows.columns[columns.path], rows.places, root, bad)
    if columns.split is not None:
        _check_splits(rows.columns[columns.split], bad)
    if columns.patient is not None:
        for i, patient in enumerate(rows.columns[columns.patient]):
            if is_empty(patient):
                bad.setdefault(i, f"no {columns.patient}")
    for name in columns.labels:
        if columns.several:
            check_flags(rows.columns[name], name, bad)
        else:
            check_classes(rows.columns[name], name, where, bad, columns.classes)
    return bad


def _check_paths(
    cells: Sequence[str], places: Sequence[str], root: Path, bad: dict[int, str]
) -> None:
    first: dict[str, int] = {}
    for i, cell in enumerate(cells):
        # As Windows reads it, "..\\a.png" leads out too, and so does "C:a.png".
        parts = PureWindowsPath(cell)
        if not cell:
            bad[i] = "no path"
        elif parts.anchor or ".." in parts.parts:
            bad[i] = f"{cell} leads out of the folder of the images"
        elif not os.path.isfile(root / cell):
            bad[i] = f"there is no file {cell}"
        elif _spell(cell) in first:
            bad[i] = f"{cell} is the image of {places[first[_spell(cell)]]} too"
        first.setdefault(_spell(cell), i)


def _spell(path: str) -> str:
    """Returns one spelling for "a.png", "./a.png" and the like."""
    return PurePosixPath(path).as_posix()


def _check_splits(cells: Sequence[str], bad: dict[int, str]) -> None:
    for i, cell in enumerate(cells):
        if cell.lower() not in SPLIT_NAMES:
            expected = ", ".join(SPLITS)
            bad.setdefault(i, f"the split is {cell!r}, and not one of {expected}")


def _find_members(rows: Rows, columns: Columns) -> dict[str, list[int]]:
    """Returns the rows of each split."""
    if columns.split is None:
        return {ALL: list(range(len(rows.places)))}
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, cell in enumerate(rows.columns[columns.split]):
        members[SPLIT_NAMES[cell.lower()]].append(i)
    return members


def _read_labels(
    rows: Rows, columns: Columns, where: str
) -> tuple[Task, tuple[str, ...], np.ndarray]:
    """Returns the task, the classes and the labels of cells that have been checked."""
    cells = [rows.columns[name] for name in columns.labels]
    if not columns.several:
        class_names, labels = index_classes(cells[0], columns.classes)
        if columns.ordinal and not columns.classes:
            check_grades(class_names, columns.labels[0], where)
        task = "binary" if len(class_names) == 2 else "multiclass"
        return ORDINAL if columns.ordinal else task, class_names, labels
    names = columns.labels
    if all(name.startswith(PREFIX) for name in names):
        names = tuple(name.removeprefix(PREFIX) for name in names)
    return "multilabel", names, stack_flags(cells)


def _carry(
    rows: Rows, names: Sequence[str], chosen: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Returns cells of columns that are carried along, "" where there is no value."""
    cells = {name: rows.columns[name] for name in names}
    return {
        name: tuple("" if is_empty(column[i]) else column[i] for i in chosen)
        for name, column in cells.items()
    }


def _check_members(
    members: Mapping[str, Sequence[int]],
    labels: np.ndarray,
    task: Task,
    class_names: tuple[str, ...],
    where: str,
) -> None:
    """Refuses an empty split, and a class that training would not see."""
    for split, chosen in members.items():
        if not chosen:
            raise InputError(f"{where} has no rows of the split {split!r}.")
    there = "the split 'train'" if "train" in members else "the table"
    train = labels[members["train" if "train" in members else ALL]]
    if task == "multilabel":
        for name, column in zip(class_names, train.T, strict=True):
            if (column == MISSING).all():
                raise InputError(
                    f"{where}: no row of {there} has a value of {name!r}, so it cannot "
                    f"be learned. Name the labels to take, as in '{where}?label=A,B'."
                )
        return
    present = set(train)
    if lacking := [name for i, name in enumerate(class_names) if i not in present]:
        raise InputError(f"{where}: {there} has no {', '.join(lacking)}.")
