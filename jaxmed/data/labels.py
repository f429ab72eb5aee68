"""What labels mean, and whether they are what they should be."""

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
