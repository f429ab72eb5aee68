"""Options behind a source's question mark, and those for classes that all sources have.

    folder:scans?classes=well,ill
    npz:scans.npz?classes=benign,malignant
    table:cohort.csv?positive=Atelectasis
    folder:retina?classes=none,mild,severe&task=ordinal

"%26" stands for "&" in a name, and "%2C" for a comma, as in addresses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

import numpy as np

from jaxmed.data.dataset import SourceImages
from jaxmed.data.images.open import READING, Reading
from jaxmed.data.labels import check_one_hot
from jaxmed.data.splits.splitting import GIVEN, Splitting
from jaxmed.errors import InputError, unknown

Options = Mapping[str, tuple[str, ...]]
"""By word the names that were given."""


def parse_query(
    query: str, where: str, words: Sequence[str], lists: Sequence[str]
) -> Options:
    """Reads the options of a source.

    Args:
        query: what follows the question mark.
        where: the source, for sentences.
        words: that there are.
        lists: those of them of which a comma separates several names.

    Raises:
        InputError: a word that is unknown, without a name or given twice, or a name
            that is given twice.
    """
    options: dict[str, tuple[str, ...]] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in words:
            raise unknown(f"word in '{where}'", key, words)
        if not value or key in options:
            raise InputError(f"'{where}' must say {key} once, as in '?{key}=NAME'.")
        texts = value.split(",") if key in lists else [value]
        names = tuple(normalize("NFC", unquote(text)) for text in texts)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"'{where}' names {twice[0]!r} twice in {key}.")
        options[key] = names
    return options


WORDS = ("classes", "positive", "task")
TASKS = ("multiclass", "multilabel", "ordinal")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What the user says of the classes.

    Attributes:
        classes: all of them in their order; empty for the source's. They are the names
            in the source or, where these are the numbers 0, 1, 2, ..., new ones.
        positive: the positive class of a binary task; empty for the last one.
        task: of `TASKS`; empty for what the labels show.
    """

    classes: tuple[str, ...] = ()
    positive: str = ""
    task: str = ""


NAMING = Naming()


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a source is to load its images.

    Attributes:
        image_size: side in pixels that the network gets; a source whose images differ
            in size, or are larger, may bring them to it. None keeps them as they are.
        reading: how image files are read and become squares.
        splitting: which splits are wanted, so that a source can refuse what it does not
            have before it reads images.
        naming: the classes as the user orders and names them.
        cache: the folder for downloads, drawn images and indexes of files; None means
            the default one.
    """

    image_size: int | None = None
    reading: Reading = READING
    splitting: Splitting = GIVEN
    naming: Naming = NAMING
    cache: Path | None = None


LOAD_OPTIONS = LoadOptions()


def take_naming(source: str) -> tuple[str, Naming]:
    """Takes the words of `Naming` out of a source's options.

    Returns:
        The source without them, and what they say.

    Raises:
        InputError: a word without a name or given twice, or an unknown task.
    """
    path, _, query = source.partition("?")
    parts = query.split("&")
    naming_parts = [part for part in parts if part.partition("=")[0] in WORDS]
    if not naming_parts:
        return source, NAMING
    options = parse_query("&".join(naming_parts), source, WORDS, ("classes",))
    task = options.get("task", ("",))[0]
    if task and task not in TASKS:
        raise unknown(f"task in '{source}'", task, TASKS)
    naming = Naming(
        classes=options.get("classes", ()),
        positive=options.get("positive", ("",))[0],
        task=task,
    )
    remaining = "&".join(part for part in parts if part not in naming_parts)
    return path + (remaining and f"?{remaining}"), naming


def apply_naming(images: SourceImages, naming: Naming, source: str) -> SourceImages:
    """Brings classes, positive class and task to what the user says.

    Args:
        images: what a source gave.
        naming: what is said.
        source: with all its options.

    Raises:
        InputError: other classes than there are, a positive class of other than two
            classes, or a task that the labels are not of.
    """
    images = replace(images, source=source)
    if naming.task and naming.task != images.task:
        images = _convert(images, naming)
    order = list(range(len(images.class_names)))
    names = images.class_names
    if naming.classes:
        names = naming.classes
        order = _find_order(images, naming)
    elif images.task == "ordinal" and naming.task:
        check_order(names, source)
    if naming.positive:
        if images.task != "binary":
            raise InputError(
                f"{source}: positive is of a task of two classes, and the task is "
                f"{images.task} with {', '.join(names)}."
            )
        if naming.positive not in names:
            raise unknown(f"class of {source}", naming.positive, names)
        if names[0] == naming.positive:
            names, order = names[::-1], order[::-1]
    if order == list(range(len(order))):
        return replace(images, class_names=names)
    return _map_labels(
        images, lambda labels: _reorder(labels, order), class_names=tuple(names)
    )


def check_order(class_names: tuple[str, ...], where: str) -> None:
    """Checks that the order of grades is told by their names.

    Raises:
        InputError: they are not 0, 1, 2, ... without a gap.
    """
    if list(class_names) != [str(grade) for grade in range(len(class_names))]:
        raise InputError(
            f"{where}: the grades are {', '.join(class_names)}, and not 0, 1, 2, ... "
            "without a gap. Say all classes in their order in the source, as in "
            "'classes=none,mild,severe'."
        )


def _find_order(images: SourceImages, naming: Naming) -> list[int]:
    """Returns, in the order that is said, the places that the classes had."""
    positions = {normalize("NFC", name): i for i, name in enumerate(images.class_names)}
    numbers = [str(i) for i in range(len(positions))]
    if set(naming.classes) == set(positions):
        return [positions[name] for name in naming.classes]
    if list(positions) == numbers and len(naming.classes) == len(numbers):
        return list(range(len(numbers)))
    raise InputError(
        f"{images.source}: classes says {', '.join(naming.classes)}, and the classes "
        f"are {', '.join(positions)}. Say all of them, in the order that you want."
    )


def _convert(images: SourceImages, naming: Naming) -> SourceImages:
    """Returns the data set with the task that is said."""
    if images.task == "binary" and naming.task == "multiclass":
        return images
    if naming.task == "multilabel" or images.task == "ordinal":
        raise InputError(
            f"{images.source} says task={naming.task}, and the labels are those of a "
            f"{images.task} task: each image has one class."
        )
    if images.task == "multilabel":
        for split in images.splits.values():
            check_one_hot(split.labels, split.ids, images.class_names, images.source)
        task: Any = "binary" if len(images.class_names) == 2 else "multiclass"
        task = "ordinal" if naming.task == "ordinal" else task
        return _map_labels(images, lambda labels: labels.argmax(axis=1), task=task)
    return replace(images, task="ordinal")


def _map_labels(
    images: SourceImages, change: Callable[[np.ndarray], np.ndarray], **changes: Any
) -> SourceImages:
    splits = {
        name: replace(split, labels=change(split.labels).astype(np.int32))
        for name, split in images.splits.items()
    }
    return replace(images, splits=splits, **changes)


def _reorder(labels: np.ndarray, order: list[int]) -> np.ndarray:
    if labels.ndim == 2:
        return labels[:, order]
    return np.argsort(order)[labels]
