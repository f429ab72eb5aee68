"""Patients, or other groups of images that belong together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Groups, and those that lie on both sides of a split.

    Attributes:
        pattern: what found them; "" if the data set came with them.
        count: how many groups there are.
        without: how many images belong to none.
        across: by group, the ids of its images by split; only groups in several.
    """

    pattern: str
    count: int
    without: int
    across: dict[str, dict[str, tuple[str, ...]]]


def match_groups(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    r"""Finds each image's group in its id.

    Args:
        ids: names of images.
        pattern: a regular expression, searched for in each. The group is what its
            parentheses match or, without any, the whole match. Of alternatives with
            parentheses each has groups of its own: `person(\\d+)_|IM-(\\d+)-` gives
            "1:12" for person12_3 and "2:12" for IM-12-3.

    Returns:
        A group per image; "" where the pattern is not found.

    Raises:
        InputError: the pattern is no regular expression, or found nowhere.
    """
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise InputError(
            f"The group pattern {pattern!r} is no regular expression: {error}."
        ) from error
    found = tuple(_name(match) if (match := search(name)) else "" for name in ids)
    if not any(found):
        raise InputError(
            f"The group pattern {pattern!r} is found in no id; the first id is "
            f"{ids[0]!r}."
        )
    return found


def find_overlap(data: Dataset, pattern: str = "") -> Overlap | None:
    """Finds groups with images in more than one split.

    Args:
        data: its splits' own groups are used where there is no pattern.
        pattern: see `match_groups`.

    Returns:
        None if neither the data set nor a pattern gives groups.

    Raises:
        InputError: see `match_groups`.
    """
    groups = _groups(data, pattern)
    if groups is None:
        return None
    members: dict[str, dict[str, list[str]]] = {}
    for split in SPLITS:
        ids = getattr(data, split).ids
        for name, group in zip(ids, groups[split], strict=True):
            members.setdefault(group, {}).setdefault(split, []).append(name)
    without = sum(map(len, members.pop("", {}).values()))
    across = {
        group: {split: tuple(ids) for split, ids in by_split.items()}
        for group, by_split in sorted(members.items())
        if len(by_split) > 1
    }
    return Overlap(pattern=pattern, count=len(members), without=without, across=across)


def _groups(data: Dataset, pattern: str) -> Mapping[str, Sequence[str]] | None:
    """Returns the groups of the images of every split."""
    splits = {name: getattr(data, name) for name in SPLITS}
    if not pattern:
        given = {name: split.groups for name, split in splits.items()}
        return None if None in given.values() else given
    every = match_groups([i for split in splits.values() for i in split.ids], pattern)
    groups, start = {}, 0
    for name, split in splits.items():
        groups[name] = every[start : start + len(split)]
        start += len(split)
    return groups


def _name(match: re.Match) -> str:
    parts = match.groups()
    if not parts:
        return match.group()
    said = [part for part in parts if part]
    alternative = f"{match.lastindex}:" if None in parts else ""
    return alternative + "/".join(said)
