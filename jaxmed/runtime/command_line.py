"""Ends of a command-line program: exit codes, errors as sentences, a closed pipe."""

import os
import sys
from collections.abc import Callable

from jaxmed.errors import FORBIDDEN, InputError, no_room

# What a shell reports of a program that writes to a pipe which nobody reads.
CLOSED_PIPE = 128 + 13
WRONG_INPUT = 2


def run_command(command: Callable[[], int | None], prefix: Callable[[], str]) -> int:
    """Run a command, and print the sentence of an error that the user can put right.

    Args:
        command: returns the exit code; None for 0.
        prefix: gives the words before the sentence, such as "Error".

    Returns:
        The exit code: the command's; 2 after an `InputError` or an error of the user's
        surroundings; 141 where nobody reads what is printed, as of `... | head`.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except SystemExit as end:  # of --help
        _drop_output()
        if isinstance(end.__context__, BrokenPipeError):  # of rich
            return CLOSED_PIPE
        raise
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except Exception as error:
        sentence = str(error) if isinstance(error, InputError) else explain_error(error)
        if sentence is None:
            raise
        print(f"{prefix()}: {sentence}", file=sys.stderr)
        return WRONG_INPUT


def explain_error(error: BaseException) -> str | None:
    """Return a sentence for an error of the user's surroundings; None for others.

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
    return _missing_device()


def _missing_device() -> str | None:
    """Return a sentence if JAX was told to use a device that is not there."""
    device = os.environ.get("JAX_PLATFORMS")
    if not device or "jax" not in sys.modules:
        return None
    try:
        sys.modules["jax"].devices()
    except Exception as error:
        # Of some platforms JAX says nothing.
        reason = (str(error).splitlines() or ["this JAX is not made for it"])[0]
        reason = reason.partition(" (set JAX_PLATFORMS")[0][:200].rstrip(". ")
        return (
            f"JAX_PLATFORMS is {device}, and JAX finds no such device: {reason}. Unset "
            "it, so that JAX takes what there is, or set it to cpu."
        )
    return None


def _drop_output() -> None:
    """Drop what is still to be printed, where nobody reads any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
