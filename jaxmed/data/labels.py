"""Tasks, and checks of labels and classes."""

from typing import Literal, get_args

import numpy as np

from jaxmed.errors import InputError

Task = Literal["binary", "multiclass", "multilabel", "ordinal"]
# A label that is not known, in a multilabel task.
MISSING = -1


def check_classes(names: tuple[str, ...], task: str, source: str) -> None:
    """Raises InputError unless the task is one, and has as many classes as it needs.

    Args:
        names: of the classes.
        task: a `Task`.
        source: the start of the sentence.
    """
    if task not in get_args(Task):
        raise InputError(
            f"{source}: the task must be one of {', '.join(get_args(Task))}, "
            f"got {task!r}."
        )
    fewest = 1 if task == "multilabel" else 2
    if len(names) < fewest or (task == "binary" and len(names) != 2):
        needed = "exactly 2" if task == "binary" else f"at least {fewest}"
        raise InputError(
            f"{source}: a {task} task needs {needed} classes, got {len(names)}."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{source}: the class name {twice[0]!r} occurs twice.")


def choose_task(
    labels: np.ndarray, names: tuple[str, ...], requested: str
) -> tuple[Task, np.ndarray, tuple[str, ...]]:
    """Tells what columns of 0 and 1 are: classes that exclude each other, or labels.

    Args:
        labels: int32 (n, k), 0, 1 or `MISSING`.
        names: of the columns.
        requested: the task that the user says; "" if none is said.

    Returns:
        The task, the labels for it, and a sentence if the columns were found to be
        one-hot: a 1 in exactly one of them in every row.
    """
    one_hot = (labels == 1).sum(axis=1) == 1
    if requested or len(names) < 2 or not one_hot.all() or (labels == MISSING).any():
        return "multilabel", labels, ()
    task: Task = "binary" if len(names) == 2 else "multiclass"
    note = (
        f"exactly one of the {len(names)} columns {', '.join(names)} is 1 for every "
        "image, so they are taken as classes that exclude each other; task=multilabel "
        "behind the source's question mark takes them as labels of their own"
    )
    return task, labels.argmax(axis=1).astype(np.int32), (note,)


def check_one_hot(
    labels: np.ndarray, ids: tuple[str, ...], names: tuple[str, ...], where: str
) -> None:
    """Raises InputError unless each image has exactly one of the classes.

    Args:
        labels: int32 (n, k), 0, 1 or `MISSING`.
        ids: n names of images.
        names: of the classes.
        where: the start of the sentence.
    """
    wrong = np.flatnonzero((labels == 1).sum(axis=1) != 1)
    if len(wrong):
        row = labels[wrong[0]]
        has = [name for name, value in zip(names, row, strict=True) if value == 1]
        raise InputError(
            f"{where}: {len(wrong):,} of {len(ids):,} images have not exactly one "
            f"class, such as {ids[wrong[0]]} with {', '.join(has) or 'none'}. Their "
            "task can be multilabel alone."
        )


def lacking_classes(
    labels: np.ndarray, task: Task, class_names: tuple[str, ...]
) -> list[str]:
    """Returns the classes that none of the images has."""
    if task == "multilabel":
        present = (labels == 1).any(axis=0)
    else:
        present = np.bincount(labels, minlength=len(class_names)) > 0
    return [name for name, has in zip(class_names, present, strict=True) if not has]


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
