"""predictions.csv: predictions on disk, exact to the last bit."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import MISSING, Predictions, check_fingerprint
from jaxmed.runtime.csv_files import FILE_NAMES, write_csv

GROUP = "group"
COLUMN = "column_"


def write_predictions(path: str | Path, splits: Sequence[Predictions]) -> None:
    """Write predictions as CSV (UTF-8), a row per image.

    The columns are `split, id, label, prob_<class>...`; in multilabel tasks
    `label_<class>...` takes the place of `label`, and a cell is empty where the label
    is not known. At the end stand `group` and `column_<name>...`, where there are
    such. Probabilities are written with Python's `repr`, so reading gives the same
    doubles.

    Args:
        path: replaced if it exists; never left half-written.
        splits: of the same task and classes, such as [val, test].

    Raises:
        InputError: no split, the same split twice, or different tasks, classes or
            columns.
    """
    if not splits:
        raise InputError("There are no predictions to write.")
    first = splits[0]
    for other in splits[1:]:
        if (other.task, other.class_names) != (first.task, first.class_names):
            raise InputError(
                f"The {first.split} and {other.split} predictions differ in task or "
                "class names, so they cannot share a file."
            )
        if _extra(other) != _extra(first):
            raise InputError(
                f"The {first.split} and {other.split} predictions differ in groups or "
                f"columns, so they cannot share a file: {_shown(_extra(first))} and "
                f"{_shown(_extra(other))}."
            )
    if len({predictions.split for predictions in splits}) < len(splits):
        raise InputError("Two of the predictions to write are of the same split.")
    columns = _header(first.task, first.class_names) + _extra(first)
    rows = (row for predictions in splits for row in _rows(predictions))
    write_csv(Path(path), columns, rows)


def read_predictions(
    path: str | Path,
    *,
    class_names: Sequence[str],
    task: str,
    fingerprint: str | None = None,
) -> dict[str, Predictions]:
    """Read what `write_predictions` wrote.

    Args:
        path: the CSV file.
        class_names: in the order of the columns.
        task: see `Predictions`.
        fingerprint: that of metrics.json, if the predictions must be those that it
            was computed from.

    Returns:
        The predictions by split, in the file's order.

    Raises:
        InputError: the file is missing, its columns are not those of these classes
            and this task, a row cannot be read, the values fail the checks of
            `Predictions`, or the fingerprint is another.
    """
    path, class_names = Path(path), tuple(class_names)
    if not path.is_file():
        raise InputError(f"There is no predictions file {path}.")
    rows: dict[str, list[_Row]] = {}
    # utf-8-sig: spreadsheet programs put a byte-order mark in front when saving.
    with path.open(encoding="utf-8-sig", errors=FILE_NAMES, newline="") as file:
        reader = csv.reader(file)
        expected, header = _header(task, class_names), next(reader, [])
        extra = header[len(expected) :]
        if header[: len(expected)] != expected or not _are_extra(extra):
            raise InputError(
                f"{path} does not hold {task} predictions of these classes: expected "
                f"the columns {_shown(expected)}, got {_shown(header)}."
            )
        for cells in reader:
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: expected {len(header)} columns, "
                    f"got {len(cells)}."
                )
            row = _parsed(cells, len(expected), task, path, reader.line_num)
            rows.setdefault(row.split, []).append(row)
    if not rows:
        raise InputError(f"{path} has no rows.")
    splits = {
        split: _predictions(split, of_split, class_names, task, extra)
        for split, of_split in rows.items()
    }
    if fingerprint is not None:
        check_fingerprint(splits.values(), fingerprint, str(path))
    return splits


class _Row(NamedTuple):
    split: str
    name: str
    labels: int | list[int]
    probs: list[float]
    extra: list[str]


def _predictions(split, rows: list[_Row], class_names, task, extra) -> Predictions:
    texts = zip(*(row.extra for row in rows), strict=True)
    columns = dict(zip(extra, texts, strict=True))
    groups = columns.pop(GROUP, None)
    return Predictions(
        split=split,
        ids=tuple(row.name for row in rows),
        labels=np.array([row.labels for row in rows], np.int64),
        probs=np.array([row.probs for row in rows], np.float64),
        class_names=class_names,
        task=task,
        groups=groups,
        columns={name.removeprefix(COLUMN): texts for name, texts in columns.items()},
    )


def _header(task: str, class_names: Sequence[str]) -> list[str]:
    multilabel = task == "multilabel"
    labels = [f"label_{name}" for name in class_names] if multilabel else ["label"]
    return ["split", "id", *labels, *(f"prob_{name}" for name in class_names)]


def _extra(predictions: Predictions) -> list[str]:
    """Return the names of the columns after the probabilities."""
    group = [] if predictions.groups is None else [GROUP]
    return [*group, *(f"{COLUMN}{name}" for name in predictions.columns)]


def _are_extra(names: Sequence[str]) -> bool:
    behind = names[1:] if names[:1] == [GROUP] else names
    once = len(set(behind)) == len(behind)
    return once and all(name.startswith(COLUMN) for name in behind)


def _rows(predictions: Predictions):
    labels = predictions.labels.reshape(len(predictions.ids), -1).tolist()
    extra = list(predictions.columns.values())
    if predictions.groups is not None:
        extra.insert(0, predictions.groups)
    for i, (name, label, probs) in enumerate(
        zip(predictions.ids, labels, predictions.probs.tolist(), strict=True)
    ):
        cells = ("" if value == MISSING else value for value in label)
        behind = (column[i] for column in extra)
        yield [predictions.split, name, *cells, *map(repr, probs), *behind]


def _parsed(cells: list[str], width: int, task: str, path: Path, line: int) -> _Row:
    """Read a row; `width` is that of the columns up to the probabilities."""
    multilabel = task == "multilabel"
    labels_end = 2 + (width - 2) // 2 if multilabel else 3
    try:
        labels = [
            MISSING if multilabel and not text else int(text)
            for text in cells[2:labels_end]
        ]
        probs = [float(text) for text in cells[labels_end:width]]
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {error}.") from None
    of_image = labels if multilabel else labels[0]
    return _Row(cells[0], cells[1], of_image, probs, cells[width:])


def _shown(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:8])
    return f"{shown}, ... ({len(columns)} in all)" if len(columns) > 8 else shown
