"""What the medmnist package knows of its data sets: names, tasks, classes, files.

Importing that package imports torch and takes seconds, and even its `info` module
makes a folder in the user's home. So the table is read from the module's source.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jaxmed.data.dataset import Task

TASKS: dict[str, Task] = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "multi-label, binary-class": "multilabel",
    "ordinal-regression": "ordinal",
}


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file to fetch: its address and the MD5 (hex) of its bytes."""

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
        license: that it is given under, such as "CC BY-NC 4.0".
        volumes: whether it holds 3D volumes and not images.
        files: the downloads by stem: "bloodmnist" (28 pixels), "bloodmnist_64", ...
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    counts: dict[str, int]
    channels: int
    license: str
    volumes: bool
    files: dict[str, Download]


@cache
def read_catalog() -> dict[str, CatalogEntry]:
    """Returns MedMNIST's data sets by name; empty without the medmnist package."""
    package = importlib.util.find_spec("medmnist")
    if package is None or package.origin is None:
        return {}
    source = Path(package.origin).with_name("info.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="INFO")], value=table):
                info = ast.literal_eval(table)
                return {name: _entry(name, row) for name, row in info.items()}
    return {}


def find_entry(stem: str) -> CatalogEntry | None:
    """Returns the 2D data set that has a file of this stem, or None.

    "pneumoniamnist_224" is a file of pneumoniamnist, "pneumoniamnist_mine" of none.
    """
    stem = stem.lower()
    entry = read_catalog().get(stem.partition("_")[0])
    return None if entry is None or entry.volumes or stem not in entry.files else entry


def _entry(name: str, row: dict) -> CatalogEntry:
    files = {}
    for key, url in row.items():
        if key == "url" or key.startswith("url_"):
            suffix = key.removeprefix("url")
            files[name + suffix] = Download(url=url, md5=row["MD5" + suffix])
    return CatalogEntry(
        name=name,
        task=TASKS[row["task"]],
        class_names=tuple(row["label"][str(i)] for i in range(len(row["label"]))),
        counts=dict(row["n_samples"]),
        channels=row["n_channels"],
        license=row["license"],
        volumes=name.endswith("3d"),
        files=files,
    )
