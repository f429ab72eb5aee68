"""Signals that ask the program to stop, and work that is to be saved first.

Of several processes, all stop after the same step: a signal that one of them hears is
acted on when they have agreed on it.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jaxmed.runtime import distributed as hosts


class Interrupted(KeyboardInterrupt):
    """The program was asked to stop, by the signal `number`."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class _Request:
    """Of the whole process, as signals are."""

    postponed = False
    # What this process heard, and what it acts on.
    heard: int | None = None
    number: int | None = None


def ask(number: int) -> bool:
    """Asks the work at hand to stop; for signal handlers.

    Returns:
        Whether it will. If not, there is none, or SIGINT came a second time: the
        handler has to stop the program itself.
    """
    insisted = number == signal.SIGINT and _Request.heard == number
    if not _Request.postponed or insisted:
        return False
    _Request.heard = _Request.heard or number
    if not hosts.are_several():
        _Request.number = _Request.heard
    return True


def heard() -> int:
    """Returns the signal that this process was asked to stop by, 0 for none."""
    return _Request.heard or 0


def agree(numbers: Iterable[int]) -> None:
    """Acts on what `heard` returned on each of several processes."""
    _Request.number = _Request.number or max(numbers, default=0) or None


def is_asked() -> bool:
    """Tells work inside `postponed` whether to save what it has and to `stop`."""
    return _Request.number is not None


def stop() -> None:
    """Ends the work if that was asked for.

    Raises:
        Interrupted: it was.
    """
    if _Request.number is not None:
        raise Interrupted(_Request.number)


@contextmanager
def postponed() -> Iterator[None]:
    """Work in this block is not broken off; it has to look whether it `is_asked`.

    Raises:
        Interrupted: at its end, if that was asked for and not seen.
    """
    _Request.postponed, _Request.heard, _Request.number = True, None, None
    try:
        yield
        agree(hosts.gather([heard()])[:, 0].tolist())
        stop()
    finally:
        _Request.postponed, _Request.heard, _Request.number = False, None, None
