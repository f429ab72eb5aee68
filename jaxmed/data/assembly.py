"""From the images that a source found to what it gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmed.data.dataset import SPLITS, Dataset, Split, Unsplit
from jaxmed.data.labels import Task, lacking_classes
from jaxmed.errors import InputError

# Where a source has not all of train, val and test.
ALL = "all"


def are_whole(splits: Mapping[str, Sequence[Any]]) -> bool:
    """Tells whether each of train, val and test has something."""
    return all(splits.get(name) for name in SPLITS)


def assemble(
    splits: Mapping[str, Split],
    *,
    name: str,
    source: str,
    class_names: tuple[str, ...],
    task: Task | None = None,
    skipped: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    origin: Sequence[str] | None = None,
) -> Dataset | Unsplit:
    """Makes what a source gives of its images.

    Args:
        splits: "train", "val" and "test", or `ALL` alone.
        name, source, class_names: see `Dataset`.
        task: None is binary where there are two classes and otherwise multiclass.
        skipped, notes: see `Dataset`.
        origin: see `Unsplit`.

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
        "notes": tuple(notes),
    }
    if ALL in splits:
        named = None if origin is None else tuple(origin)
        return Unsplit(**common, images=first, origin=named)
    return Dataset(
        **common, train=splits["train"], val=splits["val"], test=splits["test"]
    )


def _check_left(
    split: Split,
    class_names: tuple[str, ...],
    source: str,
    skipped: Mapping[str, str],
) -> None:
    if lacking := lacking_classes(split.labels, "multiclass", class_names):
        name, reason = next(iter(skipped.items()))
        raise InputError(
            f"{source}: no image of {', '.join(lacking)} is left to train on; "
            f"{len(skipped):,} were skipped, such as {name} ({reason})."
        )
