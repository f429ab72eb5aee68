"""`folder:PATH`: image files in a folder per split and, in it, a folder per class.

    PATH/train/NORMAL/IM-0001.jpeg
    PATH/train/PNEUMONIA/person1_1.jpeg
    PATH/val/..., PATH/test/...

or, to be split by jaxmed, PATH/NORMAL/..., PATH/PNEUMONIA/...

"Training", "valid", "TEST SET" and the like are other names for them
(`jaxmed.data.splits.split_file`). Of splits that are not all there the images are to
be split, as they are if no folder names one. Folders in a class's folder are searched
too. Files that are no images, by their ending or else by their content, and masks are
left out, and listed in `Dataset.skipped`; hidden files are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from unicodedata import normalize

import numpy as np

from jaxmed.data.dataset import SPLITS, SourceImages, Split, name_task
from jaxmed.data.images.discovery import (
    DICOM,
    IMAGES,
    FileKind,
    Search,
    files_in,
    subfolders,
)
from jaxmed.data.images.load import cannot_use
from jaxmed.data.images.open import open_images
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions
from jaxmed.data.splits.split_file import find_role
from jaxmed.data.splits.splitting import check_given
from jaxmed.errors import InputError

# By split, its folder; of "", where folders name no splits, the root.
Folders = Mapping[str, Path]
LAYOUT = "Expected is PATH/{train,val,test}/CLASS/IMAGE or PATH/CLASS/IMAGE."


def load_folder(
    rest: str, options: LoadOptions = LOAD_OPTIONS, kind: FileKind = IMAGES
) -> SourceImages:
    """Load `folder:PATH`.

    Classes are the folders' names in sorted order; two make a binary task, of which
    the second is the positive class. Ids are the paths below PATH, in sorted order.

    Args:
        rest: the path of the folder.
        options: see `LoadOptions`.
        kind: of files.

    Raises:
        InputError: a split, a class or all images of one are missing, or files cannot
            be used; the sentence names them.
    """
    scheme = kind.scheme
    if not rest:
        raise InputError(
            f"'{scheme}:' needs the path of a folder, as in '{scheme}:scans'."
        )
    root = Path(rest).expanduser()
    where = f"{scheme}:{rest}"
    notes: list[str] = []
    folders = _find_splits(root, scheme, notes)
    classes = _find_classes(root, folders, notes)
    check_given(where, folders, options.splitting)
    class_names = tuple(classes)
    search = Search(refuse=kind.refuse)
    bad = search.bad
    labels = {
        split: _find_images(root, folder, split, classes, search)
        for split, folder in folders.items()
    }
    if bad and not options.reading.skips:
        shown = [f"{name} ({reason})" for name, reason in bad.items()]
        raise cannot_use(where, shown, len(bad) + sum(map(len, labels.values())))
    pooled = not options.splitting.is_given
    _check_files(labels, folders, class_names, kind.endings, pooled=pooled)
    files = {split: sorted(labels[split]) for split in labels if labels[split]}
    opened = open_images(
        root,
        files,
        where=where,
        image_size=options.image_size,
        reading=options.reading,
        cache=options.cache,
    )
    splits = {}
    for split, rows in opened.rows.items():
        ids = tuple(files[split][i] for i in rows)
        splits[split] = Split(
            images=opened.images[split],
            labels=np.array([labels[split][name] for name in ids], np.int32),
            ids=ids,
        )
    return SourceImages(
        name=root.resolve().name,
        source=where,
        task=name_task(class_names),
        class_names=class_names,
        splits=splits,
        skipped=search.left_out | bad | opened.skipped,
        notes=tuple(notes),
    )


def load_dicom(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `dicom:PATH` as `load_folder` does: DICOM files, and no others.

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
    return load_folder(rest, options, DICOM)


def _find_splits(root: Path, scheme: str, notes: list[str]) -> Folders:
    """Return the folder of each split that there is, or of "" the root."""
    if not root.is_dir():
        problem = "is a file" if root.is_file() else "does not exist"
        raise InputError(
            f"The folder {root} {problem}. Check the path after '{scheme}:'."
        )
    children = subfolders(root)
    roles = {path.name: find_role(path.name) for path in children}
    if not any(roles.values()):
        return {"": root}
    folders: dict[str, Path] = {}
    for split in SPLITS:
        matches = [path for path in children if roles[path.name] == split]
        if len(matches) > 1:
            raise InputError(
                f"{root} has the folders "
                f"{' and '.join(repr(path.name) for path in matches)}, which mean the "
                f"same; keep the one that is the {split} split."
            )
        if matches:
            folders[split] = matches[0]
    if "train" not in folders:
        raise InputError(
            f"{root} has no folder 'train'; its folders are {', '.join(roles)}. "
            f"{LAYOUT} Rename a class that has the name of a split."
        )
    if extra := [name for name, role in roles.items() if role is None]:
        notes.append(
            f"beside the splits {', '.join(p.name for p in folders.values())} there "
            f"are the folders {', '.join(extra)}, which are left out"
        )
    return folders


def _find_classes(
    root: Path, folders: Folders, notes: list[str]
) -> dict[str, dict[str, Path]]:
    """Returns by class, in sorted order, its folder in each split that has one.

    The name of a class is in Unicode's composed form; a Mac's files are not.
    """
    classes: dict[str, dict[str, Path]] = {}
    for split, folder in folders.items():
        for path in subfolders(folder):
            by_split = classes.setdefault(normalize("NFC", path.name), {})
            if split in by_split:
                raise InputError(
                    f"{folder} has two folders {path.name!r} whose names differ in "
                    "their Unicode form alone. Keep one."
                )
            by_split[split] = path
    if len(classes) < 2:
        raise InputError(
            f"{root}: at least two classes are needed, and the class folders found "
            f"are {', '.join(classes) or 'none'}. {_suggest(root) or LAYOUT}"
        )
    first = next(iter(folders))
    if "" not in folders:
        for split, folder in folders.items():
            if lacking := [name for name in classes if split not in classes[name]]:
                notes.append(f"{folder} has no folder {', '.join(lacking)}")
    within = {
        path.name
        for by_split in classes.values()
        if first in by_split
        for path in subfolders(by_split[first])
        if find_role(path.name)
    }
    if within:
        notes.append(
            f"the class folders have folders {', '.join(sorted(within))}, which are "
            f"not taken as splits: all images in a class folder are of that class. "
            f"{LAYOUT}"
        )
    return dict(sorted(classes.items()))


def _suggest(root: Path) -> str:
    """Returns what to write where the data are a folder deeper, "" if they are not."""
    inner = subfolders(root)
    if len(inner) == 1 and len(subfolders(inner[0])) > 1:
        return f"Did you mean {inner[0]}?"
    return ""


def _find_images(
    root: Path,
    folder: Path,
    split: str,
    classes: Mapping[str, Mapping[str, Path]],
    search: Search,
) -> dict[str, int]:
    """Returns the label of every image of a split by the image's id."""
    base = folder.relative_to(root).as_posix()
    prefix = "" if base == "." else f"{base}/"
    for path in files_in(folder):
        if not search.refuse(path):
            search.left_out[f"{prefix}{path.name}"] = "in the folder of no class"
    return {
        name: label
        for label, by_split in enumerate(classes.values())
        if split in by_split
        for name in search.below(by_split[split], f"{prefix}{by_split[split].name}")
    }


def _check_files(
    labels: Mapping[str, Mapping[str, int]],
    folders: Folders,
    class_names: tuple[str, ...],
    endings: tuple[str, ...],
    *,
    pooled: bool,
) -> None:
    """Refuses a split, or a class to be trained, without images.

    Args:
        labels: of the images of each split, by their ids.
        folders: of each split.
        class_names: of all of them.
        endings: of images.
        pooled: whether the images of all splits are shared out anew.
    """
    looked = f"looked for files ending in {', '.join(endings)}"
    for split, folder in folders.items():
        if not labels[split] and not pooled:
            raise InputError(
                f"{folder} has no images in its class folders "
                f"{', '.join(class_names)}; {looked}."
            )
    first = next(iter(folders))
    present = set(labels[first].values())
    where = folders[first]
    if pooled:
        present = {label for by_id in labels.values() for label in by_id.values()}
        where = folders[first] if "" in folders else folders[first].parent
    if lacking := [n for i, n in enumerate(class_names) if i not in present]:
        raise InputError(f"{where} has no images of {', '.join(lacking)}; {looked}.")
