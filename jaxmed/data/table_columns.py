"""What stands behind `table:`: the file, and what its columns are for.

table:cohort.csv?path=file&label=diagnosis&patient=pid&split=fold&root=../images
table:cohort.csv?label=Effusion,Nodule,Mass&columns=site,sex
table:cohort.csv?label=grade&task=ordinal&classes=none,mild,severe
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from jaxmed.data.rows import Rows
from jaxmed.errors import InputError, unknown

# Of these a comma separates several, unless it is written %2C.
LISTS = ("label", "classes", "columns")
OPTIONS = ("path", "patient", "split", "root", "task", *LISTS)
PREFIX = "label_"
# The one task that no table shows by itself.
ORDINAL = "ordinal"

Options = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns to read, and how.

    Attributes:
        path, split, patient: of a column each; None where there is none.
        labels: one column of classes or, if `several`, columns of 0 and 1.
        classes: in their order; empty for what the labels say.
        ordinal: whether that order means something.
        others: columns that are carried along.
    """

    path: str
    labels: tuple[str, ...]
    several: bool
    split: str | None
    patient: str | None
    classes: tuple[str, ...]
    ordinal: bool
    others: tuple[str, ...]


def parse_source(rest: str) -> tuple[Path, Options]:
    """Returns the path of the table, and what follows the question mark.

    Raises:
        InputError: no path, or a word that is unknown, empty or said twice.
    """
    file, _, query = rest.partition("?")
    if not file:
        raise InputError("'table:' needs the path of a file, as in 'table:scans.csv'.")
    options: dict[str, tuple[str, ...]] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in OPTIONS:
            raise unknown(f"word in 'table:{rest}'", key, OPTIONS)
        if not value or key in options:
            raise InputError(
                f"'table:{rest}' must say {key} once, as in '?{key}=NAME'."
            )
        names = value.split(",") if key in LISTS else [value]
        options[key] = tuple(map(unquote, names))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"'table:{rest}' names {twice[0]!r} twice in {key}.")
    if options.get("task", (ORDINAL,)) != (ORDINAL,):
        raise InputError(
            f"'table:{rest}' says task={options['task'][0]}. Only task={ORDINAL} can "
            "be said; every other task follows from the labels."
        )
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
    if "label" in options:
        labels = tuple(find("label", name) for name in options["label"])
        several = len(labels) > 1
    elif flags and "label" in rows.columns:
        raise InputError(
            f"{where} has a column 'label' and columns {', '.join(flags)}; say which "
            f"to take, as in '{where}?label=label'."
        )
    else:
        several = bool(flags)
        labels = tuple(flags) or (find("label", "label"),)
    for word in ("task", "classes"):
        if several and word in options:
            raise InputError(
                f"{where}: {word} is of one column of labels, and the labels are in "
                f"{', '.join(labels)}."
            )
    for name in options.get("columns", ()):
        if name not in rows.columns:
            raise unknown(f"column of {where}", name, rows.columns)
    return Columns(
        path=path,
        labels=labels,
        several=several,
        split=find_if_any("split"),
        patient=find_if_any("patient"),
        classes=options.get("classes", ()),
        ordinal="task" in options,
        others=options.get("columns", ()),
    )
