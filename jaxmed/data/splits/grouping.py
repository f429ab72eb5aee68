"""Groups of images that belong together, such as those of one patient."""

import re
from collections.abc import Mapping, Sequence

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
    return tuple(name or own for name, own in zip(names, ids, strict=True))


def _name(match: re.Match | None) -> str:
    """Returns what the parentheses caught, "" if nothing."""
    if match is None:
        return ""
    if match.re.groups == 1:
        return match[1] or ""
    found = enumerate(match.groups(), start=1)
    return "/".join(f"{i}:{text}" for i, text in found if text)


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
