"""Task, classes and labels of a table: from one column, or from several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmed.data.labels import Task, choose_task
from jaxmed.data.sources.class_names import Naming, check_order
from jaxmed.data.sources.table.columns import PREFIX, Columns
from jaxmed.data.sources.table.label_columns import (
    UNCERTAIN,
    check_classes,
    check_flags,
    count_uncertain,
    index_classes,
    is_empty,
    stack_flags,
)
from jaxmed.data.sources.table.label_lists import ONE, Lists, find_separator
from jaxmed.data.sources.table.reader import Rows
from jaxmed.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Task, classes and labels, and sentences on how they were found."""

    task: Task
    class_names: tuple[str, ...]
    labels: np.ndarray
    notes: tuple[str, ...] = ()


class LabelReader:
    """Reads labels in the way that columns and cells show."""

    def __init__(
        self, rows: Rows, columns: Columns, naming: Naming, where: str
    ) -> None:
        self._columns, self._naming, self._where = columns, naming, where
        self._cells = [rows.columns[name] for name in columns.labels]
        self._lists: Lists | None = None
        if columns.several:
            return
        column = columns.labels[0]
        present = [cell for cell in self._cells[0] if not is_empty(cell)]
        said = columns.separator
        if not said and (set(present) <= {*naming.classes} or naming.task == "ordinal"):
            said = ONE
        separator = find_separator(present, said, f"{where}, column {column!r}")
        if separator != ONE:
            classes, nothing = naming.classes, columns.nothing
            self._lists = Lists(present, separator, classes, nothing)
        elif naming.task == "multilabel":
            raise InputError(
                f"{where} says task=multilabel, and no cell of {column!r} holds "
                "several labels. Say what separates them, as in 'sep=|'."
            )

    def check(self, bad: dict[int, str]) -> None:
        """Notes the rows whose labels cannot be used."""
        columns, classes = self._columns, self._naming.classes
        if columns.several:
            for name, cells in zip(columns.labels, self._cells, strict=True):
                check_flags(cells, name, bad, columns.uncertain)
            if columns.uncertain == "error" and (n := count_uncertain(self._cells)):
                raise InputError(
                    f"{self._where}: {n:,} labels are {UNCERTAIN}, uncertain, and the "
                    "source says uncertain=error. Say ignore, zeros or ones."
                )
        elif self._lists is None:
            cells, name = self._cells[0], columns.labels[0]
            check_classes(cells, name, self._where, bad, classes)
        else:
            for i, cell in enumerate(self._cells[0]):
                if is_empty(cell):
                    bad.setdefault(i, f"no {columns.labels[0]}")
                elif reason := self._lists.check(cell):
                    bad.setdefault(i, reason)

    def read(self, chosen: Sequence[int]) -> Labels:
        """Returns the labels of rows that `check` has passed."""
        cells = [[column[i] for i in chosen] for column in self._cells]
        if self._columns.several:
            return self._read_flags(cells)
        if self._lists is not None:
            return Labels(
                task="multilabel",
                class_names=self._lists.class_names,
                labels=self._lists.labels(cells[0]),
                notes=(self._lists.note(cells[0], self._columns.labels[0]),),
            )
        class_names, labels = index_classes(cells[0], self._naming.classes)
        if self._naming.task == "ordinal" and not self._naming.classes:
            check_order(
                class_names, f"{self._where}, column {self._columns.labels[0]!r}"
            )
        notes = ()
        if not self._naming.classes and not {*cells[0]} <= {*class_names}:
            spelled = sorted({*cells[0]} - {*class_names})
            notes = (
                f"labels spelled otherwise are taken as one: {', '.join(spelled)}",
            )
        task: Task = "binary" if len(class_names) == 2 else "multiclass"
        task = "ordinal" if self._naming.task == "ordinal" else task
        return Labels(task=task, class_names=class_names, labels=labels, notes=notes)

    def _read_flags(self, cells: Sequence[Sequence[str]]) -> Labels:
        columns = self._columns
        names = columns.labels
        if all(name.startswith(PREFIX) for name in names):
            names = tuple(name.removeprefix(PREFIX) for name in names)
        labels = stack_flags(cells, columns.uncertain, columns.blank)
        task, labels, notes = choose_task(labels, names, self._naming.task)
        becomes = {"ignore": "not known", "zeros": "0", "ones": "1"}
        if n := count_uncertain(cells):
            notes += (
                f"{n:,} labels are {UNCERTAIN}, uncertain, and taken as "
                f"{becomes[columns.uncertain]}; uncertain=ignore, zeros, ones or error "
                "says what they are",
            )
        empty = sum(is_empty(cell) for column in cells for cell in column)
        if empty and columns.blank != "ignore":
            notes += (f"{empty:,} empty labels are taken as {becomes[columns.blank]}",)
        return Labels(task=task, class_names=names, labels=labels, notes=notes)
