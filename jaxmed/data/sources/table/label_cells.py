"""Task, classes and labels of a table: from one column, or from several.

A cell can hold several labels: "Effusion|Mass", "['effusion', 'mass']". Their separator
is given in the source (`sep=|`, `sep=none` for cells that are one label each), or is
inferred: where "|" or ";" separates labels that other cells hold alone, and in lists in
brackets. For a separator that may be part of a class's name, such as a comma, the user
is asked.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmed.data.labels import Task, choose_task
from jaxmed.data.sources.source_options import Naming, check_order
from jaxmed.data.sources.table.columns import PREFIX, Columns
from jaxmed.data.sources.table.label_columns import (
    UNCERTAIN,
    check_classes,
    check_flags,
    count_uncertain,
    index_classes,
    is_empty,
    merge_spellings,
    stack_flags,
)
from jaxmed.data.sources.table.reader import Rows
from jaxmed.errors import InputError

# Words, in lower case, for an image without any of the labels.
NOTHING = (
    "no finding",
    "no findings",
    "no_finding",
    "nofinding",
    "none",
    "nothing",
    "normal",
    "healthy",
    "negative",
)
# Separators that show, and those that may be part of a name.
CLEAR, DOUBTFUL = "|;", (",", "/", "+", "&", " ")
LIST, ONE = "list", "none"
QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def find_separator(cells: Sequence[str], requested: str, where: str) -> str:
    """Returns what separates the labels of a cell, `LIST`, or `ONE`.

    Args:
        cells: of the column that have a value.
        requested: what the user says; "" for what shows.
        where: the start of the sentence.

    Raises:
        InputError: cells look as if they held several labels, and may not.
    """
    if requested:
        return requested
    present = set(cells)
    if present and all(_is_list(cell) for cell in present):
        return LIST
    for separator in CLEAR:
        if several := [cell for cell in present if separator in cell]:
            parts = {part for cell in several for part in split_cell(cell, separator)}
            if parts & present:
                return separator
            raise _ask(where, sorted(several)[0], separator)
    for separator in DOUBTFUL:
        several = [cell for cell in present if separator in cell]
        parts = [split_cell(cell, separator) for cell in several]
        count = Counter(part for cell_parts in parts for part in cell_parts)
        count += Counter(present - set(several))
        alone = {part for cell_parts in parts for part in cell_parts} & present
        if alone and all(
            count[part] > 1 for cell_parts in parts for part in cell_parts
        ):
            raise _ask(where, sorted(several)[0], separator)
    return ONE


def split_cell(cell: str, separator: str) -> list[str]:
    """Returns the labels of a cell, each once."""
    if separator == LIST:
        inner = cell.strip()
        inner = inner[1:-1] if _is_list(inner) else inner
        quoted = [single or double for single, double in QUOTED.findall(inner)]
        parts = quoted or inner.split(",")
    else:
        parts = cell.split(separator)
    return list(dict.fromkeys(filter(None, (part.strip() for part in parts))))


class Lists:
    """Labels of cells that hold several.

    Attributes:
        class_names: the labels, in sorted order if the user says no other.
    """

    def __init__(
        self,
        cells: Sequence[str],
        separator: str,
        classes: Sequence[str] = (),
        nothing: Sequence[str] = (),
    ) -> None:
        """Reads cells that have a value.

        Args:
            cells: of the column.
            separator: see `find_separator`.
            classes: the labels there are; empty for those that occur.
            nothing: words for an image without any of them; empty for `NOTHING`.
        """
        self._separator, self._classes = separator, classes
        words = nothing or NOTHING
        labels = {name.casefold() for name in classes}
        self._nothing = {word.casefold() for word in words} - labels
        parts = [
            part
            for cell in cells
            for part in split_cell(cell, separator)
            if part.casefold() not in self._nothing
        ]
        spelling = {} if classes else merge_spellings(parts)
        self.class_names = tuple(classes) or tuple(sorted(set(spelling.values())))
        self._index = {name: i for i, name in enumerate(self.class_names)}
        self._index |= {name: self._index[merged] for name, merged in spelling.items()}

    def check(self, cell: str) -> str:
        """Returns what is wrong with a cell, "" if nothing is."""
        parts = split_cell(cell, self._separator)
        known = [part for part in parts if part.casefold() not in self._nothing]
        if known and len(known) < len(parts):
            return f"{cell} says that there is nothing, and something"
        unknown = [part for part in known if part not in self._index]
        return f"{unknown[0]} is not in classes" if unknown else ""

    def labels(self, cells: Sequence[str]) -> np.ndarray:
        """Returns int32 (n, k), 0 or 1, of cells that `check` has passed."""
        labels = np.zeros((len(cells), len(self.class_names)), np.int32)
        for i, cell in enumerate(cells):
            for part in split_cell(cell, self._separator):
                if part in self._index:
                    labels[i, self._index[part]] = 1
        return labels

    def note(self, cells: Sequence[str], column: str) -> str:
        """Returns a sentence on how the cells were read."""
        words = sorted({cell for cell in cells if cell.casefold() in self._nothing})
        none = f"; {', '.join(words)} is none of them" if words else ""
        shown = (
            "lists" if self._separator == LIST else f"separated by {self._separator}"
        )
        return (
            f"a cell of {column} can hold several labels, {shown}, which makes "
            f"{len(self.class_names)} labels of their own{none}"
        )


def _is_list(cell: str) -> bool:
    return cell[:1] == "[" and cell[-1:] == "]"


def _ask(where: str, cell: str, separator: str) -> InputError:
    written = {",": "%2C", "&": "%26", " ": "%20"}.get(separator, separator)
    return InputError(
        f"{where}: {cell!r} may be one class or several labels. Say in the source "
        f"sep={written} for several, or sep={ONE} for one."
    )


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
        requested = columns.separator
        if not requested and (
            set(present) <= {*naming.classes} or naming.task == "ordinal"
        ):
            requested = ONE
        separator = find_separator(present, requested, f"{where}, column {column!r}")
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
