"""Cells that hold several labels: "Effusion|Mass", "['effusion', 'mass']".

What separates them is said in the source (`sep=|`, `sep=none` for cells that are one
label each), or shows: where "|" or ";" separates labels that other cells hold alone,
and in lists in brackets. What may be part of a class's name, such as a comma, is asked
for.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from jaxmed.data.sources.table.label_columns import merge_spellings
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


def find_separator(cells: Sequence[str], said: str, where: str) -> str:
    """Returns what separates the labels of a cell, `LIST`, or `ONE`.

    Args:
        cells: of the column that have a value.
        said: what the user says; "" for what shows.
        where: the start of the sentence.

    Raises:
        InputError: cells look as if they held several labels, and may not.
    """
    if said:
        return said
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
        count = Counter(part for own in parts for part in own)
        count += Counter(present - set(several))
        alone = {part for own in parts for part in own} & present
        if alone and all(count[part] > 1 for own in parts for part in own):
            raise _ask(where, sorted(several)[0], separator)
    return ONE


def split_cell(cell: str, separator: str) -> list[str]:
    """Returns the labels of a cell, each once."""
    if separator == LIST:
        inner = cell.strip()
        inner = inner[1:-1] if _is_list(inner) else inner
        quoted = [one or other for one, other in QUOTED.findall(inner)]
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
        found = [
            part
            for cell in cells
            for part in split_cell(cell, separator)
            if part.casefold() not in self._nothing
        ]
        spelling = {} if classes else merge_spellings(found)
        self.class_names = tuple(classes) or tuple(sorted(set(spelling.values())))
        self._index = {name: i for i, name in enumerate(self.class_names)}
        self._index |= {name: self._index[own] for name, own in spelling.items()}

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
