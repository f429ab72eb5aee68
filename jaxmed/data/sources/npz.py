"""`npz:PATH` and `medmnist:NAME`: files in MedMNIST's layout.

Of MedMNIST itself (Yang et al., "MedMNIST v2", Scientific Data 2023) the 2D data sets
are downloaded once: "medmnist:bloodmnist" has images of 28 pixels, and
"medmnist:bloodmnist_64", "_128" and "_224" larger ones.

Six arrays: `{train,val,test}_images`, uint8 (n, h, w) or (n, h, w, 3), and
`{train,val,test}_labels`, whole numbers (n,) or (n, 1), or 0 and 1 in (n, k) where an
image can have several labels, and -1 or NaN for one that is not known. For a new split
those of val and test may be missing.
"""

import zipfile
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.dataset import (
    SPLITS,
    SourceImages,
    Split,
    check_images,
    number_ids,
)
from jaxmed.data.labels import MISSING, Task, check_labels, choose_task
from jaxmed.data.sources.medmnist_catalog import CatalogEntry, find_entry, require_entry
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions
from jaxmed.data.splits.splitting import Splitting, check_given
from jaxmed.errors import InputError
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.download import download
from jaxmed.runtime.files import LARGE_FILE
from jaxmed.runtime.progress import progress

KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
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


def load_npz(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `npz:PATH`.

    An npz has no class names. A file with the name of one of MedMNIST's
    ("pneumoniamnist_224.npz"), as many images in each split and the same labels gets
    that data set's names and task. Otherwise the classes are "0", "1", ... up to the
    highest train label, and the task follows from the labels; columns of 0 and 1 of
    which exactly one is 1 for every image are classes (`choose_task`).

    Args:
        rest: the path of the file.
        options: see `LoadOptions`; nothing is resized or cached.

    Raises:
        InputError: the file is missing, damaged, or not in the layout.
    """
    if not rest:
        raise InputError("'npz:' needs the path of a file, as in 'npz:scans.npz'.")
    path = Path(rest).expanduser()
    return read_npz(path, f"npz:{rest}", options, entry=find_entry(path.stem))


def load_medmnist(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `medmnist:NAME`; download its file the first time.

    Args:
        rest: the stem of MedMNIST's file, such as "bloodmnist" or "bloodmnist_224".
        options: the file is kept in the "medmnist" folder of the cache, and can be put
            there by hand; the images keep their size.

    Raises:
        InputError: the name or size is unknown, the data set is of volumes, the
            download fails, or the file is damaged.
    """
    stem = rest.lower()
    entry = require_entry(stem)
    url, md5 = entry.files[stem]
    path = cache_folder(options.cache) / "medmnist" / f"{stem}.npz"
    download(url, path, f"md5:{md5}")
    classes = (entry.task, entry.class_names)
    return read_npz(path, f"medmnist:{stem}", options, classes=classes)


def read_npz(
    path: Path,
    source: str,
    options: LoadOptions = LOAD_OPTIONS,
    *,
    classes: tuple[Task, tuple[str, ...]] | None = None,
    entry: CatalogEntry | None = None,
) -> SourceImages:
    """Read a file in MedMNIST's layout.

    Args:
        path: the file.
        source: the data set's `source`.
        options: which splits and which task are wanted.
        classes: the task and the class names; None infers them from the labels.
        entry: the data set of MedMNIST that it may be, whose classes it gets if the
            labels are of its kind.

    Raises:
        InputError: as `load_npz`.
    """
    arrays = _read_arrays(path, source, options.splitting)
    labels = {
        split: _to_int32(arrays[f"{split}_labels"], f"{path}, key '{split}_labels'")
        for split in SPLITS
        if f"{split}_labels" in arrays
    }
    pooled = not options.splitting.is_given
    if pooled:
        empty = [name for name in labels if not len(arrays[f"{name}_images"])]
        labels = {name: array for name, array in labels.items() if name not in empty}
    notes: tuple[str, ...] = ()
    if classes is None and entry is not None and _is_of(entry, labels):
        classes = entry.task, entry.class_names
    if classes is not None:
        task, class_names = classes
    else:
        task, class_names, labels, notes = _infer_classes(
            labels, path, options.naming.task, pooled=pooled
        )
        if entry is not None:
            notes += (
                f"named like MedMNIST's {entry.name}, but with other images or labels, "
                f"so its classes are {', '.join(class_names)}; classes=... behind the "
                "source's question mark names them",
            )
    splits = {}
    for split in labels:
        where = f"{path}, key '{split}_images'"
        images = _with_channels(arrays[f"{split}_images"])
        check_images(images, where)
        ids = number_ids(split, len(images))
        where = f"{path}, key '{split}_labels'"
        check_labels(labels[split], ids, task, class_names, where)
        splits[split] = Split(images=images, labels=labels[split], ids=ids)
    return SourceImages(
        name=path.stem,
        source=source,
        task=task,
        class_names=class_names,
        splits=splits,
        notes=notes,
    )


def _read_arrays(
    path: Path, source: str, splitting: Splitting
) -> dict[str, np.ndarray]:
    """Return the arrays of the splits that there are, train among them, by key."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"The npz file {path} {problem}. Check the path after 'npz:'.")
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path} is not an npz file, or is cut off: it has no zip directory at its "
            f"end ({path.stat().st_size} bytes). Copy or download it again."
        )
    large = path.stat().st_size > LARGE_FILE
    arrays: dict[str, np.ndarray] = {}
    key = KEYS[0]
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file) as archive:
            keys = _find_keys(archive.files, path)
            check_given(source, {key.partition("_")[0] for key in keys}, splitting)
            bar = progress(f"Reading {path.name}", len(keys), unit="arrays")
            with bar if large else nullcontext(lambda _: None) as advance:
                for key in keys:
                    arrays[key] = archive[key]
                    if not isinstance(arrays[key], np.ndarray):
                        raise InputError(
                            f"{path}: the entry {key!r} is not a NumPy array."
                        )
                    advance(1)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(
            f"{path}: the array {key!r} cannot be read, the file is damaged or holds "
            f"Python objects ({error}). Copy or download it again."
        ) from error
    return arrays


def _find_keys(names: Sequence[str], path: Path) -> list[str]:
    """Return the keys of images and labels of train, and of other splits there are."""
    splits = [
        split
        for split in SPLITS
        if split == "train" or {f"{split}_images", f"{split}_labels"} & {*names}
    ]
    keys = [key for key in KEYS if key.partition("_")[0] in splits]
    if lacking := [key for key in keys if key not in names]:
        raise InputError(
            f"{path} has no key {lacking[0]!r}. It needs {', '.join(KEYS)}; it has "
            f"{', '.join(names) or 'none'}."
        )
    return keys


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def _to_int32(labels: np.ndarray, where: str) -> np.ndarray:
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
    labels: dict[str, np.ndarray], path: Path, wanted: str, *, pooled: bool
) -> tuple[Task, tuple[str, ...], dict[str, np.ndarray], tuple[str, ...]]:
    """Infer the task and the classes.

    Args:
        labels: by split.
        path: of the file, for sentences.
        wanted: the task that the user says; "" if none is said.
        pooled: whether train is made anew, of the images of all splits.

    Returns:
        The task, the class names, the labels for it, and sentences on how they were
        inferred.
    """
    train: Any = next(iter(labels.values()), np.empty(0, np.int32))
    if train.ndim == 2:
        names = tuple(map(str, range(train.shape[1])))
        all_labels = np.concatenate(
            [v for v in labels.values() if v.shape[1:] == train.shape[1:]]
        )
        task, _, notes = choose_task(all_labels, names, wanted)
        if task != "multilabel":
            labels = {
                k: v.argmax(axis=1).astype(np.int32) if v.ndim == 2 else v
                for k, v in labels.items()
            }
        return task, names, labels, notes
    where = f"{path}, key 'train_labels'"
    if pooled:
        where = str(path)
        train = np.concatenate([v for v in labels.values() if v.ndim == 1] or [train])
    if len(train) == 0:
        raise InputError(f"{where}: the split is empty; it needs at least one image.")
    present = np.unique(train)
    expected = np.arange(len(present))
    if len(present) < 2 or (present != expected).any():
        shown = ", ".join(map(str, present[:10])) + (", ..." * (len(present) > 10))
        raise InputError(
            f"{where}: the labels must be 0, 1, ... with at least two classes "
            f"and images of each to train on; the values found are {shown}."
        )
    task = "binary" if len(present) == 2 else "multiclass"
    return task, tuple(map(str, expected)), labels, ()
