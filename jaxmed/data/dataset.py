"""What every source of images gives: three checked splits with classes and a task."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from jaxmed.data.lazy import ImageArray, LazyImages
from jaxmed.data.resizing import SQUASH, Resizing
from jaxmed.errors import InputError

Task = Literal["binary", "multiclass", "multilabel", "ordinal"]
SPLITS = ("train", "val", "test")
# A label that is not known, in a multilabel task.
MISSING = -1
# Where a source has no splits.
ALL = "all"
# How the fingerprint of a data set begins whose images stay in their files.
ON_DISK = "files-"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with labels.

    Attributes:
        images: uint8 (n, h, w, c); c is 1 (grey) or 3 (RGB). Of a set too large for
            memory they are `LazyImages`, which `images[rows]` decodes.
        labels: int32 (n,), class indices; in a multilabel task int32 (n, k), 0, 1 or
            `MISSING`, which loss and metrics leave out.
        ids: n names, unique in the data set, such as "train/000017".
        groups: n names of what the images are of, such as patients, which a split
            should not tear apart; None if that is not known.
        columns: other properties of the images, such as their site: n texts by name,
            "" where one is not known. Nothing is trained on them.
    """

    images: ImageArray
    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "Split":
        """Returns a copy of some images, int (m,), in that order."""
        lazy = isinstance(self.images, LazyImages)
        return Split(
            images=self.images.take(rows) if lazy else self.images[rows],
            labels=self.labels[rows],
            ids=tuple(self.ids[i] for i in rows),
            groups=self.groups and tuple(self.groups[i] for i in rows),
            columns={
                name: tuple(texts[i] for i in rows)
                for name, texts in self.columns.items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Three splits of one data set.

    Attributes:
        name: for titles and file names, such as "bloodmnist".
        source: what `load_dataset` was given, such as "medmnist:bloodmnist".
        task: what the labels mean; an "ordinal" task has ordered classes.
        class_names: a name per class. In a binary task the class of index 1 is the
            positive one.
        train, val, test: the splits.
        image_size: side in pixels that the network gets; the images are stored at
            their own size and resized on the device (`Preprocessing`).
        resizing: how they become squares of it.
        skipped: the reason, by name, why an image of the source is in no split.

    Raises:
        InputError: a split is empty, or has images, labels or ids that do not fit
            together, the classes or the task. The sentence names the source.
    """

    name: str
    source: str
    task: Task
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    image_size: int
    resizing: Resizing = SQUASH
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self)
        for name in SPLITS:
            split: Split = getattr(self, name)
            where = f"{self.source}, {name}"
            check_images(split.images, where)
            if len(split.images) != len(split.ids):
                raise InputError(
                    f"{where}: {len(split.images)} images but {len(split.ids)} ids."
                )
            _check_texts(split, tuple(self.train.columns), where)
            check_labels(split.labels, split.ids, self.task, self.class_names, where)
        _check_unique(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over images, labels, ids and class names.

        It depends on nothing else: not on the file's name or format. Of images that
        stay in their files, of which not every byte is read for it, it begins with
        "files-" and is taken over the files' sizes and first 16 KiB, and the shape;
        where the files lie, and when they were written, does not matter.
        """
        digest = hashlib.sha256()
        for name in self.class_names:
            _add_text(digest, name)
        for name in SPLITS:
            split: Split = getattr(self, name)
            images = split.images
            lazy = isinstance(images, LazyImages)
            _add_array(digest, images.digests if lazy else images, images.shape)
            _add_array(digest, split.labels, split.labels.shape)
            for identity in split.ids:
                _add_text(digest, identity)
        kind = ON_DISK if isinstance(self.train.images, LazyImages) else ""
        return kind + digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Unsplit:
    """What a source gives that has no splits; see `jaxmed.data.split.make_split`.

    Attributes:
        images: all of them.
        name, source, task, class_names, image_size, resizing, skipped: see `Dataset`.
    """

    name: str
    source: str
    task: Task
    class_names: tuple[str, ...]
    images: Split
    image_size: int
    resizing: Resizing = SQUASH
    skipped: Mapping[str, str] = field(default_factory=dict)


def assemble(
    splits: Mapping[str, Split],
    *,
    name: str,
    source: str,
    class_names: tuple[str, ...],
    task: Task | None = None,
    skipped: Mapping[str, str] | None = None,
) -> Dataset | Unsplit:
    """Makes what a source gives of its images.

    Args:
        splits: "train", "val" and "test", or `ALL` alone.
        name, source, class_names: see `Dataset`.
        task: None is binary where there are two classes and otherwise multiclass.
        skipped: see `Dataset`.

    Raises:
        InputError: see `Dataset`; or nothing but skipped images of a class to train.
    """
    first = next(iter(splits.values()))
    if skipped and first.labels.ndim == 1:
        _check_left(first, class_names, source, skipped)
    common: dict[str, Any] = {
        "name": name,
        "source": source,
        "task": task or ("binary" if len(class_names) == 2 else "multiclass"),
        "class_names": class_names,
        "image_size": max(first.images.shape[1:3]),
        "skipped": dict(skipped or {}),
    }
    if ALL in splits:
        return Unsplit(**common, images=first)
    return Dataset(
        **common, train=splits["train"], val=splits["val"], test=splits["test"]
    )


def _check_left(
    split: Split,
    class_names: tuple[str, ...],
    source: str,
    skipped: Mapping[str, str],
) -> None:
    present = set(split.labels.tolist())
    if lacking := [name for i, name in enumerate(class_names) if i not in present]:
        name, reason = next(iter(skipped.items()))
        raise InputError(
            f"{source}: no image of {', '.join(lacking)} is left to train on; "
            f"{len(skipped):,} were skipped, such as {name} ({reason})."
        )


def number_ids(split: str, count: int) -> tuple[str, ...]:
    """Returns ids for images that have no names: "train/000000", "train/000001"..."""
    return tuple(f"{split}/{i:06d}" for i in range(count))


def check_images(images: ImageArray, where: str) -> None:
    """Raises InputError unless `images` is a non-empty uint8 (n, h, w, 1 or 3).

    Args:
        where: the start of the sentence, such as "npz:a.npz, key 'train_images'".
    """
    if images.dtype != np.uint8:
        raise InputError(
            f"{where}: images must be of type uint8 (0 to 255), got {images.dtype}."
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"{where}: images must have the shape (n, h, w, 1 or 3), "
            f"got {images.shape}."
        )
    if len(images) == 0:
        raise InputError(f"{where}: the split is empty; it needs at least one image.")
    if 0 in images.shape:
        raise InputError(f"{where}: the images have no pixels, shape {images.shape}.")


def check_labels(
    labels: np.ndarray,
    ids: tuple[str, ...],
    task: Task,
    class_names: tuple[str, ...],
    where: str,
) -> None:
    """Raises InputError unless `labels` are int32, one per id, and within the classes.

    Args:
        labels: (n,), or (n, number of classes) in a multilabel task, where some may be
            `MISSING`, but not all.
        ids: n names of images, for the sentence.
        where: the start of the sentence, such as "npz:a.npz, key 'train_labels'".
    """
    classes = len(class_names)
    shape = (len(ids), classes) if task == "multilabel" else (len(ids),)
    if labels.shape != shape:
        raise InputError(
            f"{where}: the labels of {len(ids)} images in a {task} task must have the "
            f"shape {shape}, got {labels.shape}."
        )
    if labels.dtype != np.int32:
        raise InputError(f"{where}: labels must be of type int32, got {labels.dtype}.")
    several = task == "multilabel"
    lowest, highest = (MISSING, 1) if several else (0, classes - 1)
    wrong = np.argwhere((labels < lowest) | (labels > highest))
    if len(wrong) == 0:
        if several and (labels == MISSING).all():
            raise InputError(
                f"{where}: no label is known, all are {MISSING}. Train, val and test "
                "need known ones each."
            )
        return
    first = tuple(wrong[0])
    more = f" ({len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
    if several:
        expected = (
            f"not 0 or 1, nor {MISSING} for one that is not known, for the class "
            f"{class_names[first[1]]!r}"
        )
    else:
        expected = f"outside the {classes} classes 0 to {highest}"
    raise InputError(
        f"{where}: the label of {ids[first[0]]} is {labels[first]}, {expected}{more}."
    )


def _check_classes(dataset: Dataset) -> None:
    source, names = dataset.source, dataset.class_names
    if dataset.task not in get_args(Task):
        raise InputError(
            f"{source}: the task must be one of {', '.join(get_args(Task))}, "
            f"got {dataset.task!r}."
        )
    if dataset.image_size < 1:
        raise InputError(f"image_size must be at least 1, got {dataset.image_size}.")
    fewest = 1 if dataset.task == "multilabel" else 2
    if len(names) < fewest or (dataset.task == "binary" and len(names) != 2):
        needed = "exactly 2" if dataset.task == "binary" else f"at least {fewest}"
        raise InputError(
            f"{source}: a {dataset.task} task needs {needed} classes, got {len(names)}."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{source}: the class name {twice[0]!r} occurs twice.")


def _check_texts(split: Split, columns: tuple[str, ...], where: str) -> None:
    texts = {f"texts of {name!r}": cells for name, cells in split.columns.items()}
    for what, given in {"groups": split.groups, **texts}.items():
        if given is not None and len(given) != len(split.ids):
            raise InputError(f"{where}: {len(split.ids)} ids but {len(given)} {what}.")
    if tuple(split.columns) != columns:
        raise InputError(
            f"{where}: the columns are {', '.join(split.columns) or 'none'}, and in "
            f"train {', '.join(columns) or 'none'}."
        )


def _check_unique(dataset: Dataset) -> None:
    seen: set[str] = set()
    for name in SPLITS:
        for identity in getattr(dataset, name).ids:
            if identity in seen:
                raise InputError(
                    f"{dataset.source}: the id {identity!r} occurs twice; ids must be "
                    f"unique over all three splits (second time in {name})."
                )
            seen.add(identity)


def _add_array(digest, array: np.ndarray, shape: tuple[int, ...]) -> None:
    _add_text(digest, f"{array.dtype.str}{shape}")
    digest.update(np.ascontiguousarray(array).data)


def _add_text(digest, text: str) -> None:
    # The length in front keeps ("ab", "c") and ("a", "bc") apart.
    encoded = text.encode()
    digest.update(len(encoded).to_bytes(8, "little") + encoded)
