"""`folder:PATH`: image files in a folder per split and, in it, a folder per class.

    PATH/train/NORMAL/IM-0001.jpeg
    PATH/train/PNEUMONIA/person1_1.jpeg
    PATH/val/..., PATH/test/...

or, to be split by jaxmed, PATH/NORMAL/..., PATH/PNEUMONIA/...

"valid" and "validation" are other names for "val". Folders in a class's folder are
searched too. Files that are no images, by their ending or else by their content, and
masks are left out, and listed in `Dataset.skipped`; hidden files are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.assembly import ALL, assemble
from jaxmed.data.dataset import Dataset, Split, Unsplit
from jaxmed.data.files import READING, Reading, open_images
from jaxmed.data.kinds import DICOM, IMAGES, FileKind
from jaxmed.data.read import cannot_use
from jaxmed.data.search import Search, visible
from jaxmed.errors import InputError

FOLDERS = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
LAYOUT = "Expected is PATH/{train,val,test}/CLASS/IMAGE or PATH/CLASS/IMAGE."


def load_folder(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    reading: Reading = READING,
) -> Dataset | Unsplit:
    """Loads `folder:PATH`.

    Classes are the folders' names in sorted order; two make a binary task, of which
    the second is the positive class. Ids are the paths below PATH, in sorted order.

    Args:
        rest: the path of the folder.
        cache: the folder for the index of a large set, see `read_index`.
        image_size: what images of different sizes, or larger ones, are brought to;
            see `read_images`.
        reading: how, and what becomes of files that cannot be used.

    Raises:
        InputError: a split, a class or all images of one are missing, or files cannot
            be used; the sentence names them.
    """
    return read_folder(rest, image_size, IMAGES, cache=cache, reading=reading)


def load_dicom(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    reading: Reading = READING,
) -> Dataset | Unsplit:
    """Loads `dicom:PATH`, as `load_folder` loads `folder:PATH`: DICOM files alone.

    Args:
        rest: the path of the folder.
        cache, image_size, reading: as for `load_folder`.

    Raises:
        InputError: as `load_folder`; or pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "For DICOM files the package pydicom is needed, which is not installed: "
            "pip install 'jaxmed[dicom]'."
        ) from error
    return read_folder(rest, image_size, DICOM, cache=cache, reading=reading)


def read_folder(
    rest: str,
    image_size: int | None,
    kind: FileKind,
    *,
    cache: Path | None,
    reading: Reading,
) -> Dataset | Unsplit:
    """Reads files of a kind in the layout of `load_folder`, which see."""
    scheme = kind.scheme
    if not rest:
        raise InputError(
            f"'{scheme}:' needs the path of a folder, as in '{scheme}:scans'."
        )
    root = Path(rest).expanduser()
    folders = _find_splits(root, scheme)
    class_names = _find_classes(root, folders)
    looked = Search(refuse=kind.refuse)
    bad = looked.bad
    labels = {
        split: _find_images(root, folder, class_names, looked)
        for split, folder in folders.items()
    }
    where = f"{scheme}:{rest}"
    if bad and not reading.skips:
        shown = [f"{name} ({reason})" for name, reason in bad.items()]
        raise cannot_use(where, shown, len(bad) + sum(map(len, labels.values())))
    _check_files(labels, folders, class_names, kind.endings)
    files = {split: sorted(labels[split]) for split in labels}
    opened = open_images(
        root,
        files,
        where=where,
        image_size=image_size,
        reading=reading,
        cache=cache,
    )
    splits: dict[str, Any] = {}
    for split, rows in opened.rows.items():
        ids = tuple(files[split][i] for i in rows)
        splits[split] = Split(
            images=opened.images[split],
            labels=np.array([labels[split][name] for name in ids], np.int32),
            ids=ids,
        )
    return assemble(
        splits,
        name=root.resolve().name,
        source=where,
        class_names=class_names,
        skipped=looked.left_out | bad | opened.skipped,
    )


def folder_has_splits(rest: str, scheme: str = "folder") -> bool:
    """Tells whether `SCHEME:REST` has a folder per split; looks at no image.

    Raises:
        InputError: there is no such folder, or not one for every split, or no classes.
    """
    if not rest:
        # The loader says that a path is needed.
        return True
    root = Path(rest).expanduser()
    folders = _find_splits(root, scheme)
    _find_classes(root, folders)
    return ALL not in folders


def _find_splits(root: Path, scheme: str) -> dict[str, Path]:
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise InputError(f"The folder {root} {what}. Check the path after '{scheme}:'.")
    there = [path.name for path in visible(root) if path.is_dir()]
    known = {name for names in FOLDERS.values() for name in names}
    if there and known.isdisjoint(there):
        return {ALL: root}
    found = {}
    for split, names in FOLDERS.items():
        matches = [name for name in names if name in there]
        if not matches:
            raise InputError(
                f"{root} has no folder {' or '.join(map(repr, names))}; its folders "
                f"are {', '.join(there) or 'none'}. {LAYOUT}"
            )
        if len(matches) > 1:
            raise InputError(
                f"{root} has the folders {' and '.join(map(repr, matches))}, which "
                f"mean the same; keep the one that is the {split} split."
            )
        found[split] = root / matches[0]
    return found


def _find_classes(root: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    classes = {
        folder: {path.name for path in visible(folder) if path.is_dir()}
        for folder in folders.values()
    }
    names = sorted(set().union(*classes.values()))
    if len(names) < 2:
        raise InputError(
            f"{root}: at least two classes are needed, and the "
            f"class folders found are {', '.join(names) or 'none'}. {LAYOUT}"
        )
    missing = [
        f"{folder / name}"
        for folder, present in classes.items()
        for name in names
        if name not in present
    ]
    if missing:
        raise InputError(
            f"Every split needs a folder for each of the classes {', '.join(names)}; "
            f"missing: {', '.join(missing)}. If a class has no image in val or test, "
            "make an empty folder."
        )
    return tuple(names)


def _find_images(
    root: Path,
    folder: Path,
    class_names: tuple[str, ...],
    looked: Search,
) -> dict[str, int]:
    """Returns the label of every image of a split by the image's id."""
    base = folder.relative_to(root).as_posix()
    prefix = "" if base == "." else f"{base}/"
    for path in visible(folder):
        if path.is_file() and not looked.refuse(path):
            looked.left_out[f"{prefix}{path.name}"] = "in the folder of no class"
    return {
        name: label
        for label, own in enumerate(class_names)
        for name in looked.below(folder / own, f"{prefix}{own}")
    }


def _check_files(
    labels: Mapping[str, Mapping[str, int]],
    folders: Mapping[str, Path],
    class_names: tuple[str, ...],
    endings: tuple[str, ...],
) -> None:
    """Refuses a split, or a class to be trained, without images."""
    looked = f"looked for files ending in {', '.join(endings)}"
    for split, folder in folders.items():
        if not labels[split]:
            raise InputError(
                f"{folder} has no images in its class folders "
                f"{', '.join(class_names)}; {looked}."
            )
    # Train, or all images.
    first = next(iter(folders))
    present = set(labels[first].values())
    if lacking := [n for i, n in enumerate(class_names) if i not in present]:
        raise InputError(
            f"{folders[first]} has no images of {', '.join(lacking)}; {looked}."
        )
