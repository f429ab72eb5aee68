"""Errors a user can act on."""

import difflib
import errno
import os
import re
import sys
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


def explain(error: BaseException) -> str | None:
    """Returns a sentence for an error of the user's surroundings; None for others.

    It is for programs, at their end: files that may not be read or written, a full
    disk, and a device that is not there.
    """
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return (
            f"{error.filename or 'A file'}: {error.strerror}. This user may not read, "
            "enter or write it; name another one, or have that changed."
        )
    if reason := no_room(error):
        name = error.filename if isinstance(error, OSError) else None
        return f"Cannot write {name or 'a file'}: {reason}."
    return _lacks_device()


def _lacks_device() -> str | None:
    """Returns a sentence if JAX was told to use a device that is not there."""
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked or "jax" not in sys.modules:
        return None
    try:
        sys.modules["jax"].devices()
    except Exception as error:
        # Of some platforms JAX says nothing.
        reason = (str(error).splitlines() or ["this JAX is not made for it"])[0]
        reason = reason.partition(" (set JAX_PLATFORMS")[0][:200].rstrip(". ")
        return (
            f"JAX_PLATFORMS is {asked}, and JAX finds no such device: {reason}. Unset "
            "it, so that JAX takes what there is, or set it to cpu."
        )
    return None


# What a shell reports of a program that writes to a pipe which nobody reads.
UNREAD = 128 + 13


def silence() -> None:
    """Drops what is still to be printed, where nobody reads any more: `... | head`."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
