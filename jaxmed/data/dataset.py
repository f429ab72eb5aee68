"""Data sets: labeled images in three checked splits, with classes and a task."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jaxmed.data.images.lazy import KEY_BYTES, ImageArray, LazyImages
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.data.labels import MISSING as MISSING
from jaxmed.data.labels import Task, check_classes, check_labels, lacking_classes
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors

SPLITS = ("train", "val", "test")
# How the fingerprint of a data set begins whose images stay in their files.
ON_DISK = "files-"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with labels.

    Attributes:
        images: uint8 (n, h, w, c); c is 1 (gray) or 3 (RGB). Of a set too large for
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

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of the "images" and of the "labels".

        Of images that stay in their files it is over the files' sizes and first
        16 KiB, which are known already.
        """
        digests = {}
        images = self.images
        lazy = isinstance(images, LazyImages)
        for name, array, shape in (
            ("images", images.digests if lazy else images, images.shape),
            ("labels", self.labels, self.labels.shape),
        ):
            digest = hashlib.sha256()
            _add_array(digest, array, shape)
            digests[name] = digest.hexdigest()
        if lazy:
            digests["images"] = ON_DISK + digests["images"]
        return digests

    @cached_property
    def image_keys(self) -> tuple[bytes, ...]:
        """16 bytes for each image that tell it from every other one.

        They are a hash of its pixels; of images that stay in their files, of the
        file's path, size and time of change, and of how it is decoded.
        """
        images = self.images
        if isinstance(images, LazyImages):
            return images.keys
        # Hashing is done outside Python's lock.
        with ThreadPoolExecutor(count_processors()) as pool:
            return tuple(pool.map(_hash_image, images, chunksize=64))

    @property
    def hashes(self) -> tuple[str, ...]:
        """64 bits (hex) of the pixels of each image, the same in every source.

        Of images that stay in their files "files-" and 64 bits of the file's size and
        beginning.
        """
        images = self.images
        if isinstance(images, LazyImages):
            digests = images.digests.tolist()
            return tuple(f"{ON_DISK}{digest:016x}" for digest in digests)
        return tuple(key.hex()[:16] for key in self.image_keys)

    def take(self, rows: np.ndarray) -> "Split":
        """Return some of the images, int (m,), in that order."""
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
        notes: sentences on what the source left open and the loader decided.
        window: which gray values of images of more than 8 bits became black and white.

    Raises:
        InputError: a split is empty, or has images, labels or ids that do not fit
            together, the classes or the task. The sentence names the source.

    Examples:
        >>> def draw(name, count):
        ...     images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1))
        ...     labels = np.arange(count, dtype=np.int32) % 2
        ...     ids = number_ids(name, count)
        ...     return Split(images=images.astype(np.uint8), labels=labels, ids=ids)
        >>> data = Dataset(
        ...     name="scans", source="drawn", image_size=8,
        ...     task="binary", class_names=("healthy", "ill"),
        ...     train=draw("train", 20), val=draw("val", 10), test=draw("test", 10),
        ... )
        >>> {name: len(split) for name, split in data.splits.items()}
        {'train': 20, 'val': 10, 'test': 10}
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
    notes: tuple[str, ...] = ()
    window: Window = STORED_BITS

    def __post_init__(self) -> None:
        check_classes(self.class_names, self.task, self.source)
        if self.image_size < 1:
            raise InputError(f"image_size must be at least 1, got {self.image_size}.")
        for name, split in self.splits.items():
            where = f"{self.source}, {name}"
            check_images(split.images, where)
            if len(split.images) != len(split.ids):
                raise InputError(
                    f"{where}: {len(split.images)} images but {len(split.ids)} ids."
                )
            _check_texts(split, tuple(self.train.columns), where)
            check_labels(split.labels, split.ids, self.task, self.class_names, where)
        _check_unique(self)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over images, labels, ids and class names.

        It depends on nothing else: not on the file's name or format. Of images that
        stay in their files, of which not every byte is read for it, it begins with
        "files-" and is taken over the files' sizes and first 16 KiB, the shape, and
        the window's limits;
        where the files lie, and when they were written, does not matter.
        """
        digest = hashlib.sha256()
        for name in self.class_names:
            _add_text(digest, name)
        for split in self.splits.values():
            for part in split.digests.values():
                _add_text(digest, part)
            for identity in split.ids:
                _add_text(digest, identity)
        prefix = ON_DISK if isinstance(self.train.images, LazyImages) else ""
        if prefix and self.window != STORED_BITS:
            _add_text(digest, repr(self.window))
        return prefix + digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SourceImages:
    """Images of a source, before `jaxmed.data.splits.splitting.make_split`.

    Attributes:
        splits: the images by split: those of train, val and test that the source has,
            and "" for images of which it names none. In this order, none empty.
        name, source, task, class_names, skipped, notes: see `Dataset`.
    """

    name: str
    source: str
    task: Task
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def name_task(class_names: Sequence[str]) -> Task:
    """Return the task of images that have one class each."""
    return "binary" if len(class_names) == 2 else "multiclass"


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


def check_trainable(data: Dataset) -> None:
    """Raises InputError if a class has no training image to be learned from.

    In a multilabel task the other labels can be learned without it.
    """
    lacking = lacking_classes(data.train.labels, data.task, data.class_names)
    if not lacking or data.task == "multilabel":
        return
    names = ", ".join(lacking)
    if data.skipped:
        name, reason = next(iter(data.skipped.items()))
        raise InputError(
            f"{data.source}: no image of {names} is left to train on; "
            f"{len(data.skipped):,} were skipped, such as {name} ({reason})."
        )
    raise InputError(
        f"{data.source}: the train split has no image of {names}, so it cannot be "
        "learned. Leave it out of the classes, or take another split."
    )


def _check_texts(split: Split, columns: tuple[str, ...], where: str) -> None:
    texts = {f"texts of {name!r}": cells for name, cells in split.columns.items()}
    for noun, values in {"groups": split.groups, **texts}.items():
        if values is not None and len(values) != len(split.ids):
            raise InputError(f"{where}: {len(split.ids)} ids but {len(values)} {noun}.")
    if tuple(split.columns) != columns:
        raise InputError(
            f"{where}: the columns are {', '.join(split.columns) or 'none'}, and in "
            f"train {', '.join(columns) or 'none'}."
        )


def _check_unique(dataset: Dataset) -> None:
    seen: set[str] = set()
    for name, split in dataset.splits.items():
        for identity in split.ids:
            if identity in seen:
                raise InputError(
                    f"{dataset.source}: the id {identity!r} occurs twice; ids must be "
                    f"unique over all three splits (second time in {name})."
                )
            seen.add(identity)


def _hash_image(image: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=KEY_BYTES)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _add_array(digest, array: np.ndarray, shape: tuple[int, ...]) -> None:
    _add_text(digest, f"{array.dtype.str}{shape}")
    digest.update(np.ascontiguousarray(array).data)


def _add_text(digest, text: str) -> None:
    # The length in front keeps ("ab", "c") and ("a", "bc") apart.
    encoded = text.encode()
    digest.update(len(encoded).to_bytes(8, "little") + encoded)
