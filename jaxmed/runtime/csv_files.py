"""CSV files: UTF-8, lines that end in a newline, and names of files of any bytes."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from jaxmed.runtime.files import atomic_write

# Names of files can be any bytes: they survive in texts that are read so.
FILE_NAMES = "surrogateescape"
# Cells in the order of the columns, or by column, where a missing one is left empty.
Row = Sequence[Any] | Mapping[str, Any]


def csv_writer(file: TextIO, columns: Sequence[str]) -> Callable[[Row], None]:
    """Write a header, and return the function that writes one row more."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)

    def write(row: Row) -> None:
        if isinstance(row, Mapping):
            row = [row.get(column, "") for column in columns]
        writer.writerow(row)

    return write


def format_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return a table as the text of a CSV file.

    Examples:
        >>> print(format_csv(("id", "label"), [("a", 1), {"label": 2}]), end="")
        id,label
        a,1
        ,2
    """
    text = io.StringIO(newline="")
    write = csv_writer(text, columns)
    for row in rows:
        write(row)
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file, complete or not at all."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors=FILE_NAMES, newline="") as file,
    ):
        write = csv_writer(file, columns)
        for row in rows:
            write(row)
