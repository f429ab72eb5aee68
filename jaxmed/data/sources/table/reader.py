"""Reading of tables, CSV or Parquet, as columns of text."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from jaxmed.data.images.load import cannot_use
from jaxmed.errors import InputError

PARQUET = (".parquet", ".pq")
SEPARATORS = ",;\t|"
# Excel's first line, such as "sep=;", which says what separates cells.
SAYS_SEPARATOR = re.compile(r'"?sep=(.)"?\s*')


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table.

    Attributes:
        columns: by name the cells, as text without spaces around it, in Unicode's
            composed form; a cell without a value is "". Columns without a name are
            left out.
        locations: where each row is, such as "line 2" of a CSV.
    """

    columns: dict[str, list[str]]
    locations: list[str]

    def take(self, chosen: Sequence[int]) -> "Rows":
        """Returns some of the rows, in that order."""
        return Rows(
            columns={n: [c[i] for i in chosen] for n, c in self.columns.items()},
            locations=[self.locations[i] for i in chosen],
        )

    def join(self, other: "Rows", name: str) -> "Rows":
        """Returns these rows and those of another table, named in their places.

        Raises:
            InputError: it lacks a column of this one.
        """
        if lacking := [key for key in self.columns if key not in other.columns]:
            raise InputError(
                f"The table {name} has no column {', '.join(lacking)}, which the first "
                f"one has; it has {', '.join(other.columns)}."
            )
        return Rows(
            columns={key: [*c, *other.columns[key]] for key, c in self.columns.items()},
            locations=[
                *self.locations,
                *(f"{name}, {location}" for location in other.locations),
            ],
        )


def read_rows(path: Path) -> Rows:
    """Reads a table: Parquet by its ending, else CSV.

    A CSV is UTF-8 or, with a byte-order mark, UTF-16; what separates its cells is
    the one of comma, semicolon, tab and bar that its first line has most of, or what
    "sep=;" above that says. Empty lines are skipped.

    Raises:
        InputError: the file is missing, cannot be read, is no table, has a column
            twice or rows of another length than the first, or has no rows.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"The table {path} {problem}. Check the path after 'table:'.")
    parquet = path.suffix.lower() in PARQUET
    rows = _read_parquet(path) if parquet else _read_csv(path)
    if not rows.locations:
        raise InputError(f"The table {path} has no rows; it needs one for each image.")
    return rows


def _read_csv(path: Path) -> Rows:
    text = _read_text(path)
    lines = [line for line in text.splitlines() if line.strip(SEPARATORS + " ")]
    if not text:
        raise InputError(f"The table {path} is empty; it needs a line of column names.")
    first = next(iter(lines), "")
    declaration = SAYS_SEPARATOR.fullmatch(first)
    separator = declaration[1] if declaration else max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    cells: list[list[str]] = []
    locations: list[str] = []
    try:
        for row in reader:
            stripped = [_cell_text(cell) for cell in row]
            # The line that says the separator is no row.
            if any(stripped) and not (declaration and not cells and "sep=" in row[0]):
                cells.append(stripped)
                locations.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}, is not CSV: {error}. Check its quotes."
        ) from error
    if not cells:
        raise InputError(f"The table {path} has no rows; it needs one for each image.")
    names, *cells = cells
    _check_names(path, names)
    ragged = [
        f"{location} ({len(row)} cells, and there are {len(names)} columns)"
        for location, row in zip(locations[1:], cells, strict=True)
        if len(row) != len(names)
    ]
    if ragged:
        raise cannot_use(str(path), ragged, len(cells), "rows", skippable=False)
    columns = {name: [row[i] for row in cells] for i, name in enumerate(names) if name}
    return Rows(columns=columns, locations=locations[1:])


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The table {path} cannot be read: {error.strerror}."
        ) from error
    # Excel's "Unicode text" is UTF-16; its "CSV UTF-8" begins with a mark too.
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
        reason = "it holds bytes that are no text" if "\0" in text else ""
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        text, reason = "", f"line {line} is not UTF-8"
    if reason:
        raise InputError(
            f"{path} is not a CSV file: {reason}. Save the table as CSV in UTF-8, or "
            "as Parquet with the ending .parquet."
        )
    return text


def _check_names(path: Path, names: list[str]) -> None:
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"The table {path} has the column {twice[0]!r} twice.")


def _read_parquet(path: Path) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError(
            f"To read {path} the package pyarrow is needed, which is not installed: "
            "pip install 'jaxmed[parquet]', or save the table as CSV."
        ) from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as Parquet: {reason}.") from error
    _check_names(path, [_cell_text(name) for name in table.column_names])
    columns = {
        _cell_text(name): [_cell_text(cell) for cell in table.column(name).to_pylist()]
        for name in table.column_names
    }
    return Rows(
        columns=columns, locations=[f"row {i + 1}" for i in range(table.num_rows)]
    )


def _cell_text(cell: object) -> str:
    return "" if cell is None else normalize("NFC", str(cell).strip())
