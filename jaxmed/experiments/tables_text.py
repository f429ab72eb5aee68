"""Tables on the command line: rich on a terminal, plain lines elsewhere."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmed.report.tables import Cell, Table


def print_table(table: "Table | None") -> None:
    """Prints a table and an empty line; nothing for None."""
    if table is None:
        return
    if sys.stdout.isatty():
        _print_rich(table)
    else:
        print(format_table(table))
    print()


def format_table(table: "Table") -> str:
    """Returns a table as aligned lines, its caption above and its note below."""
    rows = [table.head, *([_text(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = _words(table)
    lines = [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in rows
    ]
    note = [table.note] if table.note else []
    return "\n".join([table.caption, *lines, *note])


def _print_rich(table: "Table") -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(table.caption),
        title_justify="left",
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
    )
    for name, left in zip(table.head, _words(table), strict=True):
        drawn.add_column(
            Text(name), justify="left" if left else "right", overflow="fold"
        )
    for row in table.rows:
        drawn.add_row(*(Text(_text(cell)) for cell in row))
    Console(highlight=False).print(drawn)


def _words(table: "Table") -> list[bool]:
    """Tells which columns hold words; the first one names the row."""
    first = table.rows[0] if table.rows else ()
    words = [cell.words for cell in first] or [True] * len(table.head)
    return [True, *words[1:]]


def _text(cell: "Cell") -> str:
    beside = cell.range or (f"({cell.note})" if cell.note else "")
    return f"{cell.text} {beside}".strip()
