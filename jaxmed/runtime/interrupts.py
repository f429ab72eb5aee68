"""Signals that ask the program to stop, deferred until its work is saved.

Of several processes all stop after the same step: a signal that one of them received
is acted on once they have agreed on it.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jaxmed.runtime import distributed


class Interrupted(KeyboardInterrupt):
    """The program was asked to stop, by the signal `number`."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class _Request:
    """State of the whole process, as signal handlers are."""

    deferred = False
    # What this process received, and what all processes have agreed to act on.
    received: int | None = None
    agreed: int | None = None


def request_stop(number: int) -> bool:
    """Ask the work in `defer_signals` to stop; for signal handlers.

    Returns:
        Whether it will. If not, there is no such work, or SIGINT came a second time:
        the handler has to end the program itself.
    """
    insisted = number == signal.SIGINT and _Request.received == number
    if not _Request.deferred or insisted:
        return False
    _Request.received = _Request.received or number
    if not distributed.is_multiprocess():
        _Request.agreed = _Request.received
    return True


def signals_received() -> int:
    """Return the signal that asked this process to stop, 0 for none."""
    return _Request.received or 0


def agree_on_stop(numbers: Iterable[int]) -> None:
    """Act on what `signals_received` returned on each of several processes."""
    _Request.agreed = _Request.agreed or max(numbers, default=0) or None


def stop_requested() -> bool:
    """Return whether work in `defer_signals` should save its state and stop."""
    return _Request.agreed is not None


def stop_if_requested() -> None:
    """End the work if that was requested.

    Raises:
        Interrupted: it was.
    """
    if _Request.agreed is not None:
        raise Interrupted(_Request.agreed)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals inside this block; the caller polls `stop_requested`.

    Raises:
        Interrupted: at the end of the block, if a signal came and was not acted on.
    """
    _Request.deferred, _Request.received, _Request.agreed = True, None, None
    try:
        yield
        agree_on_stop(distributed.all_gather([signals_received()])[:, 0].tolist())
        stop_if_requested()
    finally:
        _Request.deferred, _Request.received, _Request.agreed = False, None, None
