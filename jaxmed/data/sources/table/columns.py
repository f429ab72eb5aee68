"""Columns of a table and their roles, as named behind `table:`.

table:cohort.csv?path=file&label=diagnosis&patient=pid&split=fold&root=../images
table:cohort.csv?label=Effusion,Nodule,Mass&columns=site,sex&uncertain=zeros
table:cohort.csv?label=findings&sep=|&test=test_list.txt
"""

from dataclasses import dataclass
from pathlib import Path

from jaxmed.data.sources.source_options import Options, parse_query
from jaxmed.data.sources.table.label_columns import POLICIES
from jaxmed.data.sources.table.reader import Rows
from jaxmed.errors import InputError, unknown

# Of these a comma separates several, unless it is written %2C.
LISTS = ("label", "columns", "root", "none")
# Of these the name is one of a few.
CHOICES = {"uncertain": POLICIES, "blank": POLICIES[:3]}
OPTIONS = (
    *("path", "label", "patient", "split", "columns"),
    *("root", "ext", "val", "test"),
    *("sep", "none", *CHOICES),
)
PREFIX = "label_"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns to read, and how.

    Attributes:
        path, split, patient: of a column each; None where there is none.
        labels: one column of classes or, if `several`, columns of 0 and 1.
        several: see `labels`.
        separator: of the labels in a cell of one column; "" for what shows.
        nothing: words in such a cell for none of them; empty for the usual ones.
        uncertain, blank: what -1 and an empty cell in columns of 0 and 1 become.
        others: columns that are carried along.
    """

    path: str
    labels: tuple[str, ...]
    several: bool
    split: str | None
    patient: str | None
    separator: str
    nothing: tuple[str, ...]
    uncertain: str
    blank: str
    others: tuple[str, ...]


def parse_source(rest: str) -> tuple[Path, Options]:
    """Returns the path of the table, and what follows the question mark.

    Raises:
        InputError: no path, or a word that is unknown, empty or said twice, or a name
            that is none of its few.
    """
    file, _, query = rest.partition("?")
    if not file:
        raise InputError("'table:' needs the path of a file, as in 'table:scans.csv'.")
    options = parse_query(query, f"table:{rest}", OPTIONS, LISTS)
    for word, names in CHOICES.items():
        if word in options and options[word][0] not in names:
            raise unknown(f"{word} in 'table:{rest}'", options[word][0], names)
    return Path(file).expanduser(), options


def find_columns(rows: Rows, options: Options, where: str) -> Columns:
    """Finds the columns that are named, or go by their usual names.

    Raises:
        InputError: one is not there, or options that do not fit together.
    """

    def find(role: str, name: str) -> str:
        if name in rows.columns:
            return name
        raise InputError(
            f"{unknown(f'column of {where}', name, rows.columns)} Which one holds the "
            f"{role} is said in the source, as in '{where}?{role}=COLUMN'."
        )

    def find_if_any(role: str) -> str | None:
        if role not in options and role not in rows.columns:
            return None
        return find(role, *options.get(role, (role,)))

    path = find("path", *options.get("path", ("path",)))
    flags = [name for name in rows.columns if name.startswith(PREFIX)]
    choices = [word for word in CHOICES if word in options]
    if "label" in options:
        labels = tuple(find("label", name) for name in options["label"])
        # -1 and an empty cell mean something in columns of 0 and 1 alone.
        several = len(labels) > 1 or bool(choices)
    elif flags and "label" in rows.columns:
        raise InputError(
            f"{where} has a column 'label' and columns {', '.join(flags)}; say which "
            f"to take, as in '{where}?label=label'."
        )
    else:
        several = bool(flags or choices)
        labels = tuple(flags) or (find("label", "label"),)
    for word in ("sep", "none"):
        if several and word in options:
            raise InputError(
                f"{where}: {word} is of one column of labels, and the labels are in "
                f"{', '.join(labels)}."
            )
    for name in options.get("columns", ()):
        if name not in rows.columns:
            raise unknown(f"column of {where}", name, rows.columns)
    split = find_if_any("split")
    if tables := [word for word in ("val", "test") if word in options]:
        if "split" in options:
            raise InputError(
                f"{where}: split is a column that says each row's split, and "
                f"{' and '.join(tables)} name files that do. Say one of them."
            )
        split = None
    return Columns(
        path=path,
        labels=labels,
        several=several,
        split=split,
        patient=find_if_any("patient"),
        separator=options.get("sep", ("",))[0],
        nothing=options.get("none", ()),
        uncertain=options.get("uncertain", POLICIES)[0],
        blank=options.get("blank", POLICIES)[0],
        others=options.get("columns", ()),
    )
