"""Split files, `id,split,group,hash` with a row per image, and names of splits."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np

from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.errors import InputError
from jaxmed.runtime.csv_files import write_csv

COLUMNS = ("id", "split", "group", "hash")
# How many ids one sentence names.
IDS_SHOWN = 3


def write_split(path: Path, data: Dataset) -> None:
    """Write which image is in which split; a group that is not known is empty."""
    rows = (
        (identity, name, group, digest)
        for name, split in data.splits.items()
        for identity, group, digest in zip(
            split.ids, split.groups or ("",) * len(split), split.hashes, strict=True
        )
    )
    write_csv(path, COLUMNS, rows)


def write_skipped(path: Path, data: Dataset) -> None:
    """Write which files or rows of the source are in no split, `name,reason`."""
    write_csv(path, ("name", "reason"), data.skipped.items())


def read_split(
    path: Path, ids: Sequence[str], where: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Reads a file that `write_split` wrote, or one like it.

    Args:
        path: a CSV file with the columns id and split (train, val or test), and
            perhaps group.
        ids: of all images of the source; the file names each of them once.
        where: the source, for sentences.

    Returns:
        The split of each image, int (n,), as an index of `SPLITS`, and the groups,
        None if the file names none.

    Raises:
        InputError: the file cannot be read, or does not name exactly these images.
    """
    rows = read_rows(path)
    assigned: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows, start=2):
        identity, split = row["id"], row["split"]
        if split not in SPLITS:
            raise InputError(
                f"{path}, line {number}: the split must be one of {', '.join(SPLITS)}, "
                f"got {split!r}."
            )
        if identity in assigned:
            raise InputError(f"{path}, line {number}: {identity!r} occurs twice.")
        assigned[identity] = SPLITS.index(split), row.get("group", "")
    # A name in another Unicode form, as a Mac writes it, is the same name.
    alike = {normalize("NFC", identity): identity for identity in assigned}
    ids = [i if i in assigned else alike.get(normalize("NFC", i), i) for i in ids]
    wanted = set(ids)
    for problem, names in (
        (
            f"has no row for {{}} images of {where}",
            [i for i in ids if i not in assigned],
        ),
        (
            f"names {{}} images that {where} has not",
            [i for i in assigned if i not in wanted],
        ),
    ):
        if names:
            shown = ", ".join(names[:IDS_SHOWN]) + ", ..." * (len(names) > IDS_SHOWN)
            raise InputError(f"{path} {problem.format(f'{len(names):,}')}: {shown}.")
    parts = np.array([assigned[identity][0] for identity in ids])
    groups = tuple(assigned[identity][1] for identity in ids)
    # An image without a group is one of its own.
    named = tuple(
        group or identity for group, identity in zip(groups, ids, strict=True)
    )
    return parts, named if any(groups) else None


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a split file, which has at least an id and a split in each.

    Raises:
        InputError: the file cannot be read, or lacks one of these columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = reader.fieldnames or [], list(reader)
    except OSError as error:
        raise InputError(
            f"The split file {path} cannot be read: {error.strerror}."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"The split file {path} is not a CSV file in UTF-8: {error}."
        ) from error
    if not {"id", "split"} <= set(columns):
        raise InputError(
            f"{path} must have the columns id and split, and has "
            f"{', '.join(columns) or 'none'}."
        )
    return rows


NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev", "development", "tuning"),
    "test": ("test", "testing"),
}
ROLES = {name: split for split, names in NAMES.items() for name in names}


def find_role(name: str) -> str | None:
    """Returns which split a name means: "train", "val", "test", or None.

    Case does not matter, nor what separates words, nor a word such as "set" behind:
    "Training", "TEST SET" and "val_images" are names of splits.

    Examples:
        >>> [find_role(name) for name in ("Training", "valid-set", "tested")]
        ['train', 'val', None]
    """
    if re.search(r"\d", name):
        return None
    letters = re.sub(r"[^a-z]", "", name.casefold())
    stem = re.sub(r"(set|sets|data|dataset|images|imgs|split|folder)$", "", letters)
    return ROLES.get(letters, ROLES.get(stem))
