"""`folder:PATH`: image files in a folder per split and, in it, a folder per class.

    PATH/train/NORMAL/IM-0001.jpeg
    PATH/train/PNEUMONIA/person1_1.jpeg
    PATH/val/..., PATH/test/...

or, to be split by jaxmed, PATH/NORMAL/..., PATH/PNEUMONIA/...

"valid" and "validation" are other names for "val". Hidden files and files that are no
images by their ending are ignored; folders in a class's folder are searched too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.dataset import ALL, Dataset, Split, Unsplit, assemble
from jaxmed.data.decode import EXTENSIONS, decode
from jaxmed.data.read import Decoder, cannot_use, read_images
from jaxmed.data.resizing import SQUASH, Resizing
from jaxmed.errors import InputError

FOLDERS = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
LAYOUT = "Expected is PATH/{train,val,test}/CLASS/IMAGE or PATH/CLASS/IMAGE."


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of image files.

    Attributes:
        scheme: of the source, such as "folder".
        endings: of the files' names, in lower case.
        decoder: how one file is decoded.
    """

    scheme: str
    endings: tuple[str, ...]
    decoder: Decoder


PICTURES = FileKind(scheme="folder", endings=EXTENSIONS, decoder=decode)


def load_folder(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
) -> Dataset | Unsplit:
    """Loads `folder:PATH`.

    Classes are the folders' names in sorted order; two make a binary task, of which
    the second is the positive class. Ids are the paths below PATH, in sorted order.

    Args:
        rest: the path of the folder.
        cache: not used; nothing is kept.
        image_size, resizing: what images of different sizes, or larger ones, are
            brought to, and how; see `read_images`.

    Raises:
        InputError: a split, a class or all images of one are missing, or files cannot
            be used; the sentence names them.
    """
    del cache
    return read_folder(rest, image_size, resizing, PICTURES)


def read_folder(
    rest: str, image_size: int | None, resizing: Resizing, kind: FileKind
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
    labels = {
        split: _find_images(root, folder, class_names, kind.endings)
        for split, folder in folders.items()
    }
    where = f"{scheme}:{rest}"
    _check_files(labels, folders, class_names, kind.endings, where)
    files = {split: sorted(labels[split]) for split in labels}
    images = read_images(
        root,
        files,
        where=where,
        image_size=image_size,
        resizing=resizing,
        decoder=kind.decoder,
    )
    splits: dict[str, Any] = {
        split: Split(
            images=images[split],
            labels=np.array([labels[split][name] for name in files[split]], np.int32),
            ids=tuple(files[split]),
        )
        for split in files
    }
    return assemble(
        splits, name=root.resolve().name, source=where, class_names=class_names
    )


def _find_splits(root: Path, scheme: str) -> dict[str, Path]:
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise InputError(f"The folder {root} {what}. Check the path after '{scheme}:'.")
    there = [path.name for path in _visible(root) if path.is_dir()]
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
        folder: {path.name for path in _visible(folder) if path.is_dir()}
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
    root: Path, folder: Path, class_names: tuple[str, ...], endings: tuple[str, ...]
) -> dict[str, int]:
    """Returns the label of every image of a split by the image's id."""
    return {
        path.relative_to(root).as_posix(): label
        for label, name in enumerate(class_names)
        for path in _search(folder / name, endings)
    }


def _search(
    folder: Path, endings: tuple[str, ...], above: tuple[Path, ...] = ()
) -> Iterator[Path]:
    """Finds the images in a folder and in those below it."""
    real = folder.resolve()
    if any(other.is_relative_to(real) for other in above):
        raise InputError(
            f"{folder} is a link to a folder that it lies in, {real}: the search for "
            "images would not end. Remove the link."
        )
    for path in _visible(folder):
        if path.is_dir():
            yield from _search(path, endings, (*above, real))
        elif path.suffix.lower() in endings:
            yield path


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read: {error.strerror}."
        ) from error


def _check_files(
    labels: Mapping[str, Mapping[str, int]],
    folders: Mapping[str, Path],
    class_names: tuple[str, ...],
    endings: tuple[str, ...],
    where: str,
) -> None:
    """Refuses a split or a class to be trained without images, and broken names."""
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
    names = [name for group in labels.values() for name in group]
    # Bytes of a name that are no UTF-8 reach Python as lone surrogates.
    bad = [name for name in names if not name.isascii() and _broken(name)]
    if bad:
        shown = [f"{name!a} (its name is not UTF-8)" for name in bad]
        raise cannot_use(where, shown, len(names))


def _broken(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
