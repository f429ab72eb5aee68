"""Patients, or other groups of images, on both sides of a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.data.splits.grouping import find_groups


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Groups, and those that lie on both sides of a split.

    Attributes:
        pattern: what found them; "" if the data set came with them.
        count: how many groups there are.
        alone: how many images have an id that shows no group; each is its own.
        across: by group, the ids of its images by split; only groups in several.
    """

    pattern: str
    count: int
    alone: int
    across: dict[str, dict[str, tuple[str, ...]]]


def find_overlap(data: Dataset, pattern: str = "") -> Overlap | None:
    """Finds groups with images in more than one split.

    Args:
        data: its splits' own groups are used where there is no pattern.
        pattern: see `find_groups`.

    Returns:
        None if neither the data set nor a pattern gives groups.

    Raises:
        InputError: see `find_groups`.
    """
    groups = _groups(data, pattern)
    if groups is None:
        return None
    members: dict[str, dict[str, list[str]]] = {}
    for split in SPLITS:
        ids = getattr(data, split).ids
        for name, group in zip(ids, groups[split], strict=True):
            members.setdefault(group, {}).setdefault(split, []).append(name)
    alone = sum(
        name == group
        for split in SPLITS
        for name, group in zip(getattr(data, split).ids, groups[split], strict=True)
    )
    across = {
        group: {split: tuple(ids) for split, ids in by_split.items()}
        for group, by_split in sorted(members.items())
        if len(by_split) > 1
    }
    return Overlap(pattern=pattern, count=len(members), alone=alone, across=across)


def _groups(data: Dataset, pattern: str) -> Mapping[str, Sequence[str]] | None:
    """Returns the groups of the images of every split."""
    splits = {name: getattr(data, name) for name in SPLITS}
    if not pattern:
        given = {name: split.groups for name, split in splits.items()}
        return None if None in given.values() else given
    every = find_groups([i for split in splits.values() for i in split.ids], pattern)
    groups, start = {}, 0
    for name, split in splits.items():
        groups[name] = every[start : start + len(split)]
        start += len(split)
    return groups
