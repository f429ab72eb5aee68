"""Tables as LaTeX, with the rules of the package booktabs."""

from collections.abc import Sequence

from jaxmed.report.tables.formatting import Cell, Table

ESCAPES = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
}
"""What stands for characters that LaTeX reads otherwise, or has no letter for."""
DOCUMENT = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""
NEEDS = "% \\usepackage{booktabs}\n"


def latex_table(table: Table, reference: str) -> str:
    """A table environment with a caption: words at the left, numbers at the right.

    Args:
        table: the table; its note follows the caption.
        reference: of the \\label, without special characters.
    """
    caption = escape(table.caption)
    if table.note:
        caption += f". {escape(table.note)}"
    head = [escape(name) for name in table.head]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{caption}}}",
        rf"\label{{{reference}}}",
        rf"\begin{{tabular}}{{{_columns(table)}}}",
        r"\toprule",
        _row(head),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return NEEDS + "\n".join(lines) + "\n"


def latex_document(names: Sequence[str]) -> str:
    """A document that inputs the files of these names, which are beside it."""
    parts = (rf"\input{{{name}}}\clearpage" for name in names)
    return DOCUMENT % "\n".join(parts)


def escape(text: str) -> str:
    """Text as LaTeX prints it, on one line and without control characters."""
    text = " ".join(text.split())
    return "".join(ESCAPES.get(c, c) for c in text if c.isprintable())


def _columns(table: Table) -> str:
    """Left for the names of rows and for words, right for numbers."""
    rows = zip(*table.rows, strict=True)
    aligned = ["l" if all(cell.words for cell in column) else "r" for column in rows]
    return "".join(aligned) or "l" * len(table.head)


def _cell(cell: Cell) -> str:
    return escape(cell.line)


def _row(cells: Sequence[str]) -> str:
    # After the end of a row LaTeX takes "[" and "*" for options of it.
    first = "{}" if cells[0].startswith(("[", "*")) else ""
    return first + " & ".join(cells) + r" \\"
