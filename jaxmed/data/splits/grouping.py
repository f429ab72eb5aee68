"""Groups of images, such as those of one patient, and groups in several splits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.errors import InputError


def find_groups(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    r"""Reads the groups of images from their ids.

    Args:
        ids: names of images, such as "train/PNEUMONIA/person17_virus_48.jpeg".
        pattern: a regular expression that is searched for in every id, with a pair of
            parentheses around what names the group. With several pairs, as in
            `person(\d+)_|IM-(\d+)-`, the group's name begins with which of them it
            was ("1:17"), so that person 17 and IM-17 differ.

    Returns:
        A group per id. One in which the pattern does not occur is its own group.

    Raises:
        InputError: the pattern is none, has no parentheses, or occurs in no id.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"group_pattern {pattern!r} is not a regular expression: {error}."
        ) from error
    if not compiled.groups:
        raise InputError(
            f"group_pattern {pattern!r} must have parentheses around what names the "
            r"group, as in person(\d+)_."
        )
    names = [_name(compiled.search(identity)) for identity in ids]
    if not any(names):
        raise InputError(
            f"group_pattern {pattern!r} occurs in none of the {len(ids):,} ids; the "
            f"first is {ids[0]!r}."
        )
    return tuple(name or identity for name, identity in zip(names, ids, strict=True))


def _name(match: re.Match | None) -> str:
    """Returns what the parentheses caught, "" if nothing."""
    if match is None:
        return ""
    if match.re.groups == 1:
        return match[1] or ""
    numbered = enumerate(match.groups(), start=1)
    return "/".join(f"{i}:{text}" for i, text in numbered if text)


def torn_groups(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the groups with images in more than one split, in sorted order.

    Args:
        groups: of the images of each split, by its name.
    """
    seen: dict[str, str] = {}
    torn = set()
    for split, names in groups.items():
        torn.update(name for name in names if seen.setdefault(name, split) != split)
    return sorted(torn)


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
        source_groups = {name: split.groups for name, split in splits.items()}
        return None if None in source_groups.values() else source_groups
    all_groups = find_groups(
        [i for split in splits.values() for i in split.ids], pattern
    )
    groups, start = {}, 0
    for name, split in splits.items():
        groups[name] = all_groups[start : start + len(split)]
        start += len(split)
    return groups
