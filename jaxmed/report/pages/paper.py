"""Figures and tables for a paper: PDF, CSV and LaTeX, from stored files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxmed.config.published import Expectation
from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures import catalog as drawings
from jaxmed.report.figures.catalog import Figures
from jaxmed.report.figures.strategy_diagram import rate_scale
from jaxmed.report.figures.style import pdf
from jaxmed.report.figures.training_curves import common_limits
from jaxmed.report.pages.experiment import JOINT
from jaxmed.report.tables.by_patient import patient_table
from jaxmed.report.tables.decisions import (
    calibration_table,
    class_table,
    class_threshold_table,
    confusion_table,
    selection_table,
    threshold_table,
)
from jaxmed.report.tables.formatting import Cell, Table
from jaxmed.report.tables.provenance import cost_table
from jaxmed.report.tables.results import differences_table, summary_table
from jaxmed.report.tables.subgroups import gaps_table, subgroup_columns, subgroup_table
from jaxmed.runs.record import Arm, read_experiment
from jaxmed.runtime.csv_files import format_csv
from jaxmed.runtime.files import atomic_write
from jaxmed.runtime.progress import progress

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
    """Write a LaTeX table environment with a caption, numbers right-aligned.

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
    """Write a LaTeX document that inputs the files of these names beside it."""
    parts = (rf"\input{{{name}}}\clearpage" for name in names)
    return DOCUMENT % "\n".join(parts)


def escape(text: str) -> str:
    """Escape text for LaTeX, on one line and without control characters."""
    text = " ".join(text.split())
    return "".join(ESCAPES.get(c, c) for c in text if c.isprintable())


def _columns(table: Table) -> str:
    """Return the column specification: l for words, r for numbers."""
    rows = zip(*table.rows, strict=True)
    aligned = ["l" if all(cell.words for cell in column) else "r" for column in rows]
    return "".join(aligned) or "l" * len(table.head)


def _cell(cell: Cell) -> str:
    return escape(cell.line)


def _row(cells: Sequence[str]) -> str:
    # After the end of a row LaTeX takes "[" and "*" for options of it.
    first = "{}" if cells[0].startswith(("[", "*")) else ""
    return first + " & ".join(cells) + r" \\"


PAPER_FORMATS = ("pdf", "csv", "latex")
NAME = 80
"""Characters of a file's name, which arms and columns are part of."""


def write_paper(
    folder: Path,
    formats: Sequence[str],
    *,
    expected: Sequence[Expectation] | None = None,
    arms: Sequence[str] | None = None,
) -> list[Path]:
    """Write the report's figures to `figures/` and its tables to `tables/`.

    A figure is a PDF of vectors. A table is a CSV file, or LaTeX with booktabs; beside
    the latter lies `all.tex`, a document with all of them. Numbers are as the page has
    them: value [low, high]. What is of one seed says so in its head.

    Args:
        folder: `OUT/<experiment>`, with at least one finished run in it.
        formats: of `PAPER_FORMATS`.
        expected, arms: see `build_report`.

    Returns:
        The folders written to. Nothing is written before all of it is made, and every
        file is there complete or not at all.

    Raises:
        InputError: the folder holds no finished run, or a damaged one.
    """
    finished, _ = read_experiment(folder, arms)
    comparison, contents = Comparison(finished), {}
    if "pdf" in formats:
        parts = _figures(comparison, expected or ())
        with progress("Drawing for print", len(finished) + 1, unit="parts") as advance:
            for part in parts:
                for name, drawing in part.items():
                    file = _unique_path(folder / "figures", name, ".pdf", contents)
                    contents[file] = pdf(drawing.figure)
                advance(1)
    written: list[Path] = []
    tables = {} if set(formats) <= {"pdf"} else paper_tables(comparison)
    for name, table in tables.items():
        if "csv" in formats:
            file = _unique_path(folder / "tables", name, ".csv", contents)
            contents[file] = csv_table(table).encode()
        if "latex" in formats:
            file = _unique_path(folder / "tables", name, ".tex", contents)
            contents[file] = latex_table(table, f"tab:{file.stem}").encode()
            written.append(file)
    if "latex" in formats:
        file = _unique_path(folder / "tables", "all", ".tex", contents)
        contents[file] = latex_document([path.stem for path in written]).encode()
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return sorted({path.parent for path in contents})


def paper_tables(comparison: Comparison) -> dict[str, Table]:
    """Return the tables of an experiment by name."""
    arms = comparison.arms
    binary = arms[0].first.task == "binary"
    tables = {"summary": summary_table(comparison)}
    if len(arms) > 1:
        tables["differences"] = differences_table(comparison)
    tables |= {"cost": cost_table(comparison), "chosen": selection_table(arms)}
    tables["calibration"] = calibration_table(arms)
    if binary:
        tables["thresholds"] = threshold_table(arms)
    if table := patient_table(arms):
        tables["patients"] = table
    for arm in arms:
        arm_tables: dict[str, Table] = {}
        arm_tables["per_class"] = class_table(arm)
        if not binary:
            arm_tables["thresholds"] = class_threshold_table(arm)
        if table := confusion_table(arm):
            arm_tables["confusion"] = table
        tables |= {f"{arm.name}-{name}": table for name, table in arm_tables.items()}
    for column in subgroup_columns(arms):
        tables[f"subgroups-{column}"] = subgroup_table(arms, column)
        if table := gaps_table(arms, column):
            tables[f"gaps-{column}"] = table
    return tables


def csv_table(table: Table) -> str:
    """Write a table as CSV: heads, then "value [low, high]" with a plain minus.

    What is missing is an empty cell, or says why.
    """
    return format_csv(table.head, ([_plain(cell) for cell in r] for r in table.rows))


def _plain(cell: Cell) -> str:
    if cell.exact is None and not cell.words:
        return cell.note if cell.text == "–" else cell.text
    text = cell.line
    return text if cell.words else text.replace("−", "-")


def _figures(
    comparison: Comparison, expected: Sequence[Expectation]
) -> Iterator[Figures]:
    """Yield the figures shared by all arms, then those of each arm."""
    arms = comparison.arms
    runs = [run for arm in arms for run in arm.runs]
    limits, scale = common_limits(runs), rate_scale(runs)
    by_column = drawings.subgroup_figures(arms)
    yield {
        **drawings.forest_figures(comparison),
        **drawings.joint_figures(arms),
        **drawings.class_figures(comparison),
        **drawings.utility_figures(arms),
        **{f"subgroups-{column}": figure for column, figure in by_column.items()},
    }
    for arm in arms:
        yield {
            f"{arm.name}-{name}": drawing
            for name, drawing in _arm_figures(arm, limits, scale, expected).items()
        }


def _arm_figures(arm: Arm, limits, scale, expected) -> Figures:
    figures = drawings.run_figures(arm.first, limits, scale, expected)
    shared = JOINT if arm.first.task == "binary" else ()
    return {name: drawing for name, drawing in figures.items() if name not in shared}


def _unique_path(
    folder: Path, name: str, ending: str, taken: dict[Path, bytes]
) -> Path:
    """Return a unique, safe path for any name, such as a column's."""
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:NAME].strip(".") or "_"
    names = {path.name.casefold() for path in taken if path.parent == folder}
    filename, number = f"{stem}{ending}", 2
    while filename.casefold() in names:
        filename, number = f"{stem}-{number}{ending}", number + 1
    return folder / filename
