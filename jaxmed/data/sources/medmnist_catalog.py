"""Catalog of MedMNIST's 2D data sets: tasks, classes, and files with their hashes."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from jaxmed.data.labels import Task
from jaxmed.errors import InputError, unknown

CATALOG = "medmnist_catalog.toml"


class Download(NamedTuple):
    """A file's address, and the MD5 (hex) of its bytes."""

    url: str
    md5: str


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A data set of MedMNIST.

    Attributes:
        name: such as "bloodmnist".
        task, class_names: as in `Dataset`.
        counts: images in each split.
        channels: of the images, 1 (gray) or 3 (RGB).
        license: that its publishers give it under, such as "CC BY-NC 4.0".
        files: the downloads by stem: "bloodmnist" (28 pixels), "bloodmnist_64", ...
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    counts: dict[str, int]
    channels: int
    license: str
    files: dict[str, Download]


@cache
def read_catalog() -> dict[str, CatalogEntry]:
    """Return the data sets by name.

    Examples:
        >>> read_catalog()["breastmnist"].counts
        {'train': 546, 'val': 78, 'test': 156}
    """
    table = _read_table()
    entries = {}
    for name, row in table.items():
        if not isinstance(row, dict):
            continue
        files = {}
        for size, md5 in row.pop("md5").items():
            stem = name if size == "28" else f"{name}_{size}"
            files[stem] = Download(table["url"].format(file=f"{stem}.npz"), md5)
        row["class_names"] = tuple(row["class_names"])
        entries[name] = CatalogEntry(name=name, files=files, **row)
    return entries


def find_entry(stem: str) -> CatalogEntry | None:
    """Return the data set that has a file of this stem, or None.

    "pneumoniamnist_224" is a file of pneumoniamnist, "pneumoniamnist_mine" of none.
    """
    stem = stem.lower()
    entry = read_catalog().get(stem.partition("_")[0])
    return None if entry is None or stem not in entry.files else entry


def require_entry(stem: str) -> CatalogEntry:
    """Return the data set that has a file of this stem.

    Raises:
        InputError: there is none, or it is of volumes; the sentence says what there is.
    """
    name, _, size = stem.partition("_")
    catalog = read_catalog()
    if name in _read_table()["volumes"]:
        raise InputError(
            f"{name} holds 3D volumes; jaxmed reads the 2D data sets of MedMNIST: "
            f"{', '.join(sorted(catalog))}."
        )
    if name not in catalog:
        raise unknown("MedMNIST data set", stem, catalog)
    if stem not in catalog[name].files:
        raise InputError(
            f"{name} has no file for the size {size!r}. "
            f"Its files are {', '.join(catalog[name].files)}."
        )
    return catalog[name]


def _read_table() -> dict:
    file = resources.files("jaxmed.data.sources").joinpath(CATALOG)
    return tomllib.loads(file.read_text(encoding="utf-8"))
