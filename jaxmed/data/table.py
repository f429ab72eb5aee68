"""`table:PATH`: a CSV or Parquet file with a row for each image.

    path,label,patient,split
    IM-0001.jpeg,NORMAL,17,train
    person1_1.jpeg,PNEUMONIA,1,val

Several columns of 0 and 1 whose names begin with "label_" make a multi-label task.
Columns that go by other names are named behind a question mark, and so is the folder
of the images, where it is not the table's own:

    table:cohort.csv?path=file&label=diagnosis&patient=pid&split=fold&root=../images
    table:cohort.csv?label=Effusion,Nodule,Mass

All other columns are left alone. "%26" stands for "&" in a name, as in addresses.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from jaxmed.data.dataset import ALL, SPLITS, Dataset, Split, Task, Unsplit, assemble
from jaxmed.data.read import cannot_use, read_images
from jaxmed.data.resizing import SQUASH, Resizing
from jaxmed.data.rows import Rows, read_rows
from jaxmed.data.table_labels import (
    MISSING,
    check_classes,
    check_flags,
    index_classes,
    stack_flags,
)
from jaxmed.errors import InputError, unknown

OPTIONS = ("path", "label", "patient", "split", "root")
PREFIX = "label_"
# What a split is called, besides its name.
SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The names of the columns to read."""

    path: str
    labels: tuple[str, ...]
    several: bool
    split: str | None
    patient: str | None


def load_table(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
) -> Dataset | Unsplit:
    """Loads `table:PATH`.

    Classes are the labels in sorted order, whole numbers by value; two make a binary
    task, of which the second is the positive class. Ids are the images' paths, in the
    order of the rows; groups are the patients, where there is a column of them. A
    table without a column of splits is to be split.

    Args:
        rest: the path of the table, with what stands for its columns.
        cache: not used; nothing is kept.
        image_size, resizing: what images of different sizes, or larger ones, are
            brought to, and how; see `read_images`.

    Raises:
        InputError: the table cannot be read, a column is missing, rows cannot be used
            (the sentence names them), or a split or a class has no images.
    """
    del cache
    path, options = _parse(rest)
    where = f"table:{path}"
    rows = read_rows(path)
    columns = _find_columns(rows, options, where)
    root = path.parent / Path(options.get("root", ".")).expanduser()
    ids, splits = _check_rows(rows, columns, root, where)
    groups = rows.columns[columns.patient] if columns.patient else None
    task, class_names, labels = _read_labels(rows, columns)
    members = {
        split: [i for i, name in enumerate(splits) if name == split]
        for split in ([ALL] if columns.split is None else SPLITS)
    }
    _check_members(members, labels, task, class_names, where)
    images = read_images(
        root,
        {split: [ids[i] for i in chosen] for split, chosen in members.items()},
        where=where,
        image_size=image_size,
        resizing=resizing,
    )
    made: dict[str, Any] = {
        split: Split(
            images=images[split],
            labels=labels[chosen],
            ids=tuple(ids[i] for i in chosen),
            groups=None if groups is None else tuple(groups[i] for i in chosen),
        )
        for split, chosen in members.items()
    }
    return assemble(
        made,
        name=path.stem,
        source=f"table:{rest}",
        class_names=class_names,
        task=task,
    )


def _parse(rest: str) -> tuple[Path, dict[str, str]]:
    """Returns the path of the table, and what follows the question mark."""
    file, _, query = rest.partition("?")
    if not file:
        raise InputError("'table:' needs the path of a file, as in 'table:scans.csv'.")
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in OPTIONS:
            raise unknown(f"word in 'table:{rest}'", key, OPTIONS)
        if not value or key in options:
            raise InputError(
                f"'table:{rest}' must say {key} once, as in '?{key}=NAME'."
            )
        # A comma separates label columns, unless it is written %2C.
        options[key] = value if key == "label" else unquote(value)
    return Path(file).expanduser(), options


def _find_columns(rows: Rows, options: Mapping[str, str], where: str) -> _Columns:
    def find(role: str, name: str) -> str:
        if name in rows.columns:
            return name
        raise InputError(
            f"{unknown(f'column of {where}', name, rows.columns)} Which one holds the "
            f"{role} is said in the source, as in '{where}?{role}=COLUMN'."
        )

    def find_if_any(role: str) -> str | None:
        if role not in options and role not in rows.columns:
            return None
        return find(role, options.get(role, role))

    path = find("path", options.get("path", "path"))
    flags = [name for name in rows.columns if name.startswith(PREFIX)]
    if "label" in options:
        names = tuple(unquote(name) for name in options["label"].split(","))
        labels, several = tuple(find("label", name) for name in names), len(names) > 1
    elif flags and "label" in rows.columns:
        raise InputError(
            f"{where} has a column 'label' and columns {', '.join(flags)}; say which "
            f"to take, as in '{where}?label=label'."
        )
    else:
        several = bool(flags)
        labels = tuple(flags) or (find("label", "label"),)
    return _Columns(
        path=path,
        labels=labels,
        several=several,
        split=find_if_any("split"),
        patient=find_if_any("patient"),
    )


def _check_rows(
    rows: Rows, columns: _Columns, root: Path, where: str
) -> tuple[list[str], list[str]]:
    """Returns the id and the split of every row, or refuses all that are bad."""
    bad: dict[int, str] = {}
    ids = _check_paths(rows.columns[columns.path], rows.places, root, bad)
    if columns.split is None:
        splits = [ALL] * len(ids)
    else:
        splits = _check_splits(rows.columns[columns.split], bad)
    if columns.patient is not None:
        for i, patient in enumerate(rows.columns[columns.patient]):
            if patient.lower() in MISSING:
                bad.setdefault(i, f"no {columns.patient}")
    for name in columns.labels:
        if columns.several:
            check_flags(rows.columns[name], name, bad)
        else:
            check_classes(rows.columns[name], name, where, bad)
    if bad:
        reasons = [f"{rows.places[i]} ({bad[i]})" for i in sorted(bad)]
        raise cannot_use(where, reasons, len(rows.places), "rows")
    return ids, splits


def _check_paths(
    cells: Sequence[str], places: Sequence[str], root: Path, bad: dict[int, str]
) -> list[str]:
    """Returns the images' paths below the root, each spelt in one way."""
    ids: list[str] = []
    first: dict[str, int] = {}
    for i, cell in enumerate(cells):
        ids.append(PurePosixPath(cell).as_posix())
        # As Windows reads it, "..\\a.png" leads out too, and so does "C:a.png".
        parts = PureWindowsPath(cell)
        if not cell:
            bad[i] = "no path"
        elif parts.anchor or ".." in parts.parts:
            bad[i] = f"{cell} leads out of the folder of the images"
        elif not os.path.isfile(root / cell):
            bad[i] = f"there is no file {cell}"
        elif ids[i] in first:
            bad[i] = f"{cell} is the image of {places[first[ids[i]]]} too"
        first.setdefault(ids[i], i)
    return ids


def _check_splits(cells: Sequence[str], bad: dict[int, str]) -> list[str]:
    for i, cell in enumerate(cells):
        if cell.lower() not in SPLIT_NAMES:
            expected = ", ".join(SPLITS)
            bad.setdefault(i, f"the split is {cell!r}, and not one of {expected}")
    return [SPLIT_NAMES.get(cell.lower(), "") for cell in cells]


def _read_labels(
    rows: Rows, columns: _Columns
) -> tuple[Task, tuple[str, ...], np.ndarray]:
    """Returns the task, the classes and the labels of cells that have been checked."""
    cells = [rows.columns[name] for name in columns.labels]
    if not columns.several:
        class_names, labels = index_classes(cells[0])
        task = "binary" if len(class_names) == 2 else "multiclass"
        return task, class_names, labels
    names = columns.labels
    if all(name.startswith(PREFIX) for name in names):
        names = tuple(name.removeprefix(PREFIX) for name in names)
    return "multilabel", names, stack_flags(cells)


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
    if task == "multilabel" or "train" not in members:
        return
    present = set(labels[members["train"]])
    if lacking := [name for i, name in enumerate(class_names) if i not in present]:
        raise InputError(f"{where}: the split 'train' has no {', '.join(lacking)}.")
