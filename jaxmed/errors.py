"""Errors a user can act on."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one or two plain sentences: what, where, expected and got, and
    what to do. The command line prints it alone and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Returns the error for a `name` that is not one of the `known` names.

    Args:
        kind: what the name stands for, in the singular ("backbone", "recipe").
        name: what the user wrote.
        known: every name that would have been accepted.

    Returns:
        An error, to be raised by the caller, that suggests the nearest known name
        where one is near, and lists all of them otherwise.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return InputError(f"Unknown {kind} {name!r}. Did you mean {near[0]!r}?")
    return InputError(f"Unknown {kind} {name!r}. Known: {', '.join(known)}.")
