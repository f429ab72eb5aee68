"""Labeled images of another source than the one that a model was trained on.

They are not split, nothing is trained on them, and their classes are those of the
model: matched by name, or as a mapping says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.data.dataset import SPLITS, Dataset, SourceImages, Split
from jaxmed.data.images.gray_range import apply_window
from jaxmed.data.labels import MISSING, Task, lacking_classes
from jaxmed.data.sources.registry import load_source
from jaxmed.data.splits.grouping import find_groups
from jaxmed.data.splits.splitting import Splitting, gather, join_groups
from jaxmed.errors import InputError, unknown

if TYPE_CHECKING:
    from jaxmed.data.transforms.preprocess import Preprocessing

# By class of the source the model's class; "" leaves its images out.
Mapped = Mapping[str, str]


def load_external(
    source: str,
    preprocessing: "Preprocessing",
    *,
    splits: Sequence[str] = (),
    group_pattern: str = "",
    on_error: str = "stop",
    memory_budget: float | None = None,
    cache: Path | None = None,
) -> SourceImages:
    """Load all labeled images of a source, prepared as a model was trained.

    Args:
        source: see `jaxmed.data.load_dataset`.
        preprocessing: of the model: size, resizing and gray values.
        splits: of the source, some of train, val and test; none for all its images.
        group_pattern: finds an image's patient in its id, see `find_groups`.
        on_error, memory_budget, cache: see `load_dataset`.

    Returns:
        The images in one split, named "".

    Raises:
        InputError: the source is unknown or cannot be read, or has no such split.
    """
    loaded = load_source(
        source,
        image_size=preprocessing.image_size,
        resizing=preprocessing.resizing,
        # Whichever splits a source has, all its images can be split anew, and are here
        # one.
        splitting=Splitting(split="stratified"),
        memory_budget=memory_budget,
        on_error=on_error,
        window=preprocessing.window.setting,
        cache=cache,
    )
    images = loaded.images
    for name in splits:
        if name not in SPLITS or name not in images.splits:
            raise unknown(f"split of {source}", name, [*filter(None, images.splits)])
    wanted = {k: v for k, v in images.splits.items() if not splits or k in splits}
    wanted = apply_window(wanted, preprocessing.window, loaded.reading)
    return _join(replace(images, splits=wanted), group_pattern)


def as_external(
    data: Dataset | SourceImages, *, splits: Sequence[str] = (), group_pattern: str = ""
) -> SourceImages:
    """Return the images of a data set in one split, as `load_external` does."""
    wanted = {k: v for k, v in data.splits.items() if not splits or k in splits}
    if not wanted:
        raise unknown(f"split of {data.source}", splits[0], data.splits)
    images = SourceImages(
        name=data.name,
        source=data.source,
        task=data.task,
        class_names=data.class_names,
        splits=wanted,
        skipped=data.skipped,
        notes=data.notes,
    )
    return _join(images, group_pattern)


def _join(images: SourceImages, group_pattern: str) -> SourceImages:
    splits = tuple(images.splits.values())
    if len({split.images.shape[1:] for split in splits}) > 1:
        raise InputError(
            f"{images.source}: the images of its splits differ in size. Name one split."
        )
    ids = tuple(identity for split in splits for identity in split.ids)
    groups = join_groups(splits)
    if group_pattern:
        groups = find_groups(ids, group_pattern)
    joined = gather(splits, np.arange(len(ids)), groups)
    return replace(images, splits={"": joined})


def match_classes(
    images: SourceImages, class_names: Sequence[str], task: Task, mapping: Mapped
) -> tuple[SourceImages, tuple[str, ...]]:
    """Give images of an external source the classes of a model.

    Args:
        images: as `load_external` returns it.
        class_names, task: of the model.
        mapping: by class of the source that of the model, "" for images to leave out;
            classes that it does not name are matched by name, if need be without regard
            to case.

    Returns:
        The images with the model's classes and task, and sentences on classes that were
        mapped, left out or are missing.

    Raises:
        InputError: another task, a class that the model does not know, a mapping of
            unknown classes, or images of one class only.
    """
    source = images.source
    several = task == "multilabel"
    if several != (images.task == "multilabel"):
        raise InputError(
            f"{source} is {images.task}, and the model is {task}: labels of one kind "
            "cannot be told from the other. Give labels of the model's kind."
        )
    targets, notes = _find_targets(images, class_names, mapping)
    (split,) = images.splits.values()
    if several:
        labels = _merge_labels(split.labels, targets, len(class_names))
        kept = np.flatnonzero((labels != MISSING).any(axis=1))
    else:
        labels = np.array(targets, np.int32)[split.labels]
        kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        notes.append(f"{len(labels) - len(kept):,} images left out by the mapping")
    matched = replace(split, labels=labels).take(kept) if len(kept) else None
    present = [] if matched is None else _present(matched, task, class_names)
    if matched is None or len(present) < (1 if several else 2):
        raise InputError(
            f"{source} has images of {' and '.join(present) or 'no class'} only, and "
            "how a model tells classes apart cannot be measured on one. Give images of "
            "others of its classes too, and see --map."
        )
    if lacking := [name for name in class_names if name not in present]:
        notes.append(f"no image of {', '.join(lacking)}, which cannot be measured")
    return (
        replace(
            images, splits={"": matched}, class_names=tuple(class_names), task=task
        ),
        tuple(notes),
    )


def _present(split: Split, task: Task, class_names: Sequence[str]) -> list[str]:
    lacking = lacking_classes(split.labels, task, tuple(class_names))
    return [name for name in class_names if name not in lacking]


def _find_targets(
    images: SourceImages, class_names: Sequence[str], mapping: Mapped
) -> tuple[list[int], list[str]]:
    """Return, by class of the source, the model's class, -1 for none, and notes."""
    for name, target in mapping.items():
        if name not in images.class_names:
            raise unknown(f"class of {images.source}", name, images.class_names)
        if target and target not in class_names:
            raise unknown("class of the model", target, class_names)
    folded = {name.casefold(): name for name in class_names}
    targets, notes, lacking = [], [], []
    for name in images.class_names:
        target = mapping.get(name)
        if target is None:
            target = name if name in class_names else folded.get(name.casefold())
        if target is None:
            # Of labels of their own the others are simply not the model's.
            if images.task != "multilabel":
                lacking.append(name)
            target = ""
        elif target and target != name:
            notes.append(f"{name} counts as {target}")
        elif not target:
            notes.append(f"images of {name} are left out")
        targets.append(list(class_names).index(target) if target else -1)
    if lacking or set(targets) == {-1}:
        names = ", ".join(lacking or images.class_names)
        raise InputError(
            f"{images.source} has the classes {names}, which the model does not know: "
            f"its classes are {', '.join(class_names)}. Say what they are, as in --map "
            f"'{class_names[0]}={(lacking or images.class_names)[0]}', with nothing "
            "before the = to leave images out."
        )
    return targets, notes


def _merge_labels(labels: np.ndarray, targets: Sequence[int], k: int) -> np.ndarray:
    """Merge columns of labels: 1 if one is, 0 if all are, else not known."""
    merged = np.full((len(labels), k), MISSING, np.int32)
    for target in set(targets) - {-1}:
        columns = labels[:, [i for i, column in enumerate(targets) if column == target]]
        merged[(columns == 0).all(axis=1), target] = 0
        merged[(columns == 1).any(axis=1), target] = 1
    return merged
