"""`npz:PATH`: a file in MedMNIST's layout.

Six arrays: `{train,val,test}_images`, uint8 (n, h, w) or (n, h, w, 3), and
`{train,val,test}_labels`, whole numbers (n,) or (n, 1), or 0 and 1 in (n, k) where an
image can have several labels, and -1 or NaN for one that is not known.
"""

import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from jaxmed.data.dataset import (
    MISSING,
    SPLITS,
    Dataset,
    Split,
    Task,
    check_images,
    check_labels,
    number_ids,
)
from jaxmed.data.labels import choose_task
from jaxmed.data.sources.medmnist_catalog import CatalogEntry, find_entry
from jaxmed.data.sources.source_options import NAMING, Naming
from jaxmed.errors import InputError
from jaxmed.runtime.progress import progress

KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
# Files above this size (bytes) take seconds to read: they show progress.
LARGE_FILE = 64 * 2**20
# What NumPy and zipfile raise on bytes that are not what they should be.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    MemoryError,
)


def load_npz(
    rest: str,
    cache: Path | None = None,
    image_size: int | None = None,
    naming: Naming = NAMING,
) -> Dataset:
    """Loads `npz:PATH`.

    An npz has no class names. A file with the name of one of MedMNIST's
    ("pneumoniamnist_224.npz"), as many images in each split and the same labels gets
    the set's names and task from the medmnist package where that is installed.
    Otherwise the classes are "0", "1", ... up to the highest train label, and the task
    follows from the labels; columns of 0 and 1 of which exactly one is 1 for every
    image are classes (`choose_task`).

    Args:
        rest: the path of the file.
        cache, image_size: not used; nothing is cached, nothing resized.
        naming: whether the user says another task.

    Raises:
        InputError: the file is missing, damaged, or not in the layout.
    """
    del cache, image_size
    if not rest:
        raise InputError("'npz:' needs the path of a file, as in 'npz:scans.npz'.")
    path = Path(rest).expanduser()
    return read_npz(
        path, source=f"npz:{rest}", entry=find_entry(path.stem), naming=naming
    )


def read_npz(
    path: Path,
    *,
    source: str,
    classes: tuple[Task, tuple[str, ...]] | None = None,
    entry: CatalogEntry | None = None,
    naming: Naming = NAMING,
) -> Dataset:
    """Reads a file in MedMNIST's layout.

    Args:
        path: the file.
        source: the data set's `source`.
        classes: the task and the class names; None infers them from the labels.
        entry: the data set of MedMNIST that it may be, whose classes it gets if the
            labels are of its kind.
        naming: whether the user says another task.

    Raises:
        InputError: as `load_npz`.
    """
    arrays = _read_arrays(path)
    labels = {
        split: _whole(arrays[f"{split}_labels"], f"{path}, key '{split}_labels'")
        for split in SPLITS
    }
    notes: tuple[str, ...] = ()
    if classes is None and entry is not None and _is_of(entry, labels):
        classes = entry.task, entry.class_names
    if classes is not None:
        task, class_names = classes
    else:
        task, class_names, labels, notes = _infer_classes(labels, path, naming)
        if entry is not None:
            notes += (
                f"named like MedMNIST's {entry.name}, but with other images or labels, "
                f"so its classes are {', '.join(class_names)}; classes=... behind the "
                "source's question mark names them",
            )
    splits = {}
    for split in SPLITS:
        where = f"{path}, key '{split}_images'"
        images = _with_channels(arrays[f"{split}_images"])
        check_images(images, where)
        ids = number_ids(split, len(images))
        where = f"{path}, key '{split}_labels'"
        check_labels(labels[split], ids, task, class_names, where)
        splits[split] = Split(images=images, labels=labels[split], ids=ids)
    return Dataset(
        name=path.stem,
        source=source,
        task=task,
        class_names=class_names,
        image_size=max(splits["train"].images.shape[1:3]),
        notes=notes,
        **splits,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"The npz file {path} {what}. Check the path after 'npz:'.")
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path} is not an npz file, or is cut off: it has no zip directory at its "
            f"end ({path.stat().st_size} bytes). Copy or download it again."
        )
    large = path.stat().st_size > LARGE_FILE
    bar = progress(f"Reading {path.name}", len(KEYS), unit="arrays")
    arrays = {}
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with (
            path.open("rb") as file,
            np.load(file) as archive,
            bar if large else nullcontext() as advance,
        ):
            for key in KEYS:
                arrays[key] = _read_array(archive, key, path)
                if advance is not None:
                    advance(1)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(
            f"{path}: the array {KEYS[len(arrays)]!r} cannot be read, the file is "
            f"damaged or holds Python objects ({error}). Copy or download it again."
        ) from error
    return arrays


def _read_array(archive, key: str, path: Path) -> np.ndarray:
    if key not in archive.files:
        names = ", ".join(archive.files) or "none"
        raise InputError(
            f"{path} has no key {key!r}. It needs {', '.join(KEYS)}; it has {names}."
        )
    array = archive[key]
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: the entry {key!r} is not a NumPy array.")
    return array


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def _whole(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns labels of any numeric type and layout as int32 (n,) or (n, k).

    NaN is `MISSING` where an image can have several labels.
    """
    if labels.dtype.kind not in "biuf":
        raise InputError(f"{where}: labels must be whole numbers, got {labels.dtype}.")
    if labels.ndim not in (1, 2) or 0 in labels.shape[1:]:
        raise InputError(
            f"{where}: labels must have the shape (n,), (n, 1) or (n, classes), "
            f"got {labels.shape}."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = np.where(np.isnan(labels), MISSING, labels)
    limits = np.iinfo(np.int32)
    fits = (labels >= limits.min) & (labels <= limits.max) & (labels % 1 == 0)
    if not fits.all():
        row = int(np.argwhere(~fits)[0][0])
        raise InputError(
            f"{where}: labels must be whole numbers, got {labels[~fits][0]} "
            f"in row {row}."
        )
    labels = labels.astype(np.int32)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _is_of(entry: CatalogEntry, labels: dict[str, np.ndarray]) -> bool:
    """Tells whether labels are as many and of such a kind as a MedMNIST set's."""
    if {split: len(values) for split, values in labels.items()} != entry.counts:
        return False
    train = labels["train"]
    if entry.task == "multilabel":
        return train.ndim == 2 and train.shape[1] == len(entry.class_names)
    return train.ndim == 1 and np.array_equal(
        np.unique(train), np.arange(len(entry.class_names))
    )


def _infer_classes(
    labels: dict[str, np.ndarray], path: Path, naming: Naming
) -> tuple[Task, tuple[str, ...], dict[str, np.ndarray], tuple[str, ...]]:
    """Returns task, classes and labels, and sentences on how they were found."""
    train = labels["train"]
    if train.ndim == 2:
        names = tuple(map(str, range(train.shape[1])))
        every = np.concatenate(
            [v for v in labels.values() if v.shape[1:] == train.shape[1:]]
        )
        task, _, notes = choose_task(every, names, naming.task)
        if task != "multilabel":
            labels = {
                k: v.argmax(axis=1).astype(np.int32) if v.ndim == 2 else v
                for k, v in labels.items()
            }
        return task, names, labels, notes
    where = f"{path}, key 'train_labels'"
    if len(train) == 0:
        raise InputError(f"{where}: the split is empty; it needs at least one image.")
    present = np.unique(train)
    expected = np.arange(len(present))
    if len(present) < 2 or (present != expected).any():
        shown = ", ".join(map(str, present[:10])) + (", ..." * (len(present) > 10))
        raise InputError(
            f"{where}: the labels must be 0, 1, ... with at least two classes and "
            f"every class in the train split; the values found are {shown}."
        )
    task = "binary" if len(present) == 2 else "multiclass"
    return task, tuple(map(str, expected)), labels, ()
