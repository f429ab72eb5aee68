"""Tables on the command line: rich on a terminal, plain lines elsewhere."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmed.report.tables.formatting import Cell, Table

# Columns of a terminal from which on intervals stand beside their values, not below.
WIDE = 110


def print_table(table: "Table | None") -> None:
    """Print a table and an empty line; nothing for None."""
    if table is None:
        return
    if sys.stdout.isatty():
        _print_rich(table)
    else:
        print(format_table(table))
    print()


def format_table(table: "Table") -> str:
    """Return a table as aligned lines, its caption above and its note below."""
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

    console = Console(highlight=False)
    between = " " if console.width >= WIDE else "\n"
    drawn = RichTable(
        title=Text(table.caption),
        title_justify="left",
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    rows = [[_text(cell, between) for cell in row] for row in table.rows]
    columns = zip(*rows, strict=True)
    for name, left, texts in zip(table.head, _words(table), columns, strict=True):
        lines = [line for text in texts for line in text.split("\n")]
        drawn.add_column(
            Text(name),
            justify="left" if left else "right",
            overflow="fold",
            # Names and words wrap before an interval does.
            min_width=None if left else max(map(len, lines)),
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)


def _words(table: "Table") -> list[bool]:
    """Tell which columns hold words; the first one names the row."""
    first = table.rows[0] if table.rows else ()
    words = [cell.words for cell in first] or [True] * len(table.head)
    return [True, *words[1:]]


def _text(cell: "Cell", between: str = " ") -> str:
    parts = filter(None, (cell.text, cell.range, cell.again))
    if cell.note and cell.exact is None:
        parts = (cell.text, f"({cell.note})")
    return between.join(parts)
