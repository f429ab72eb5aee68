"""Signals that ask the program to stop, and work that is to be saved first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The program was asked to stop, by the signal `number`."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class _Request:
    """Of the whole process, as signals are."""

    postponed = False
    number: int | None = None


def ask(number: int) -> bool:
    """Asks the work at hand to stop; for signal handlers.

    Returns:
        Whether it will. If not, there is none, or SIGINT came a second time: the
        handler has to stop the program itself.
    """
    insisted = number == signal.SIGINT and _Request.number == number
    if not _Request.postponed or insisted:
        return False
    _Request.number = _Request.number or number
    return True


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
    _Request.postponed, _Request.number = True, None
    try:
        yield
        stop()
    finally:
        _Request.postponed, _Request.number = False, None
