"""predictions.csv: predictions on disk, exact to the last bit."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions
from jaxmed.files import replacing

# Ids are often names of files, and those can be any bytes: they survive.
ODD = "surrogateescape"


def write_predictions(path: str | Path, splits: Sequence[Predictions]) -> None:
    """Writes predictions as CSV (RFC 4180, UTF-8), a row per image.

    The columns are `split, id, label, prob_<class>...`; in multilabel tasks
    `label_<class>...` takes the place of `label`. Probabilities are written with
    Python's `repr`, so reading gives the same doubles.

    Args:
        path: replaced if it exists; never left half-written.
        splits: of the same task and classes, such as [val, test].

    Raises:
        InputError: no split, the same split twice, or different tasks or classes.
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
    if len({predictions.split for predictions in splits}) < len(splits):
        raise InputError("Two of the predictions to write are of the same split.")
    with (
        replacing(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", errors=ODD, newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_header(first.task, first.class_names))
        for predictions in splits:
            writer.writerows(_rows(predictions))


def read_predictions(
    path: str | Path, *, class_names: Sequence[str], task: str
) -> dict[str, Predictions]:
    """Reads what `write_predictions` wrote.

    Args:
        path: the CSV file.
        class_names: in the order of the columns.
        task: see `Predictions`.

    Returns:
        The predictions by split, in the file's order.

    Raises:
        InputError: the file is missing, its columns are not those of these classes
            and this task, a row cannot be read, or the values fail the checks of
            `Predictions`.
    """
    path, class_names = Path(path), tuple(class_names)
    if not path.is_file():
        raise InputError(f"There is no predictions file {path}.")
    rows: dict[str, list[tuple]] = {}
    # utf-8-sig: spreadsheet programs put a byte-order mark in front when saving.
    with path.open(encoding="utf-8-sig", errors=ODD, newline="") as file:
        reader = csv.reader(file)
        expected, header = _header(task, class_names), next(reader, [])
        if header != expected:
            raise InputError(
                f"{path} does not hold {task} predictions of these classes: expected "
                f"the columns {_shown(expected)}, got {_shown(header)}."
            )
        for row in reader:
            split, *values = _parsed(row, len(header), task, path, reader.line_num)
            rows.setdefault(split, []).append(tuple(values))
    if not rows:
        raise InputError(f"{path} has no rows.")
    return {
        split: Predictions(
            split=split,
            ids=tuple(name for name, _, _ in values),
            labels=np.array([labels for _, labels, _ in values], np.int64),
            probs=np.array([probs for _, _, probs in values], np.float64),
            class_names=class_names,
            task=task,
        )
        for split, values in rows.items()
    }


def _header(task: str, class_names: Sequence[str]) -> list[str]:
    multilabel = task == "multilabel"
    labels = [f"label_{name}" for name in class_names] if multilabel else ["label"]
    return ["split", "id", *labels, *(f"prob_{name}" for name in class_names)]


def _rows(predictions: Predictions):
    labels = predictions.labels.reshape(len(predictions.ids), -1).tolist()
    for name, label, probs in zip(
        predictions.ids, labels, predictions.probs.tolist(), strict=True
    ):
        yield [predictions.split, name, *label, *map(repr, probs)]


def _parsed(row: list[str], width: int, task: str, path: Path, line: int):
    """Returns split, id, label (an int or a list of them) and probabilities."""
    where = f"{path}, line {line}"
    if len(row) != width:
        raise InputError(f"{where}: expected {width} columns, got {len(row)}.")
    labels_end = 2 + (width - 2) // 2 if task == "multilabel" else 3
    try:
        labels = [int(text) for text in row[2:labels_end]]
        probs = [float(text) for text in row[labels_end:]]
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
    return row[0], row[1], labels if task == "multilabel" else labels[0], probs


def _shown(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:8])
    return f"{shown}, ... ({len(columns)} in all)" if len(columns) > 8 else shown
