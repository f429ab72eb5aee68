"""Errors a user can act on."""

import difflib
import errno
import os
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one or two plain sentences: what, where, expected and got, and
    what to do. The command line prints it alone and exits with code 2.
    """


def unknown(noun: str, name: str, known: Iterable[str]) -> InputError:
    """Returns the error for a `name` that is not one of the `known` names.

    Args:
        noun: what the name stands for, in the singular ("backbone", "recipe").
        name: what the user wrote.
        known: every name that would have been accepted.

    Returns:
        An error, to be raised by the caller, that suggests the nearest known name
        where one is near, and lists all of them otherwise.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return InputError(f"Unknown {noun} {name!r}. Did you mean {near[0]!r}?")
    return InputError(f"Unknown {noun} {name!r}. Known: {', '.join(known)}.")


# What the system says where a user may not read or write, and where there is no room: a
# full disk, a quota, a limit on files, a disk that may only be read.
FORBIDDEN = (errno.EACCES, errno.EPERM)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def no_room(error: BaseException | None) -> str | None:
    """Returns why a disk takes nothing more; None if an error is of another kind.

    Libraries that write files wrap what the system said, or only repeat its words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return os.strerror(error.errno)
        for number in NO_ROOM:
            if os.strerror(number) in str(error):
                return os.strerror(number)
        # NumPy's words for a write that came to less than was asked for.
        if re.search(r"\d+ requested and \d+ written", str(error)):
            return os.strerror(errno.ENOSPC)
        error = error.__cause__ or error.__context__
    return None
