"""When to look at a training's totals and at signals, which waits for the devices."""

import time

from jaxmed.runtime import distributed as hosts
from jaxmed.runtime import interrupts

# Seconds between two looks.
INTERVAL = 0.5


class Looks:
    """Tells after every dispatch whether it is time to look.

    One process goes by the clock. Several look after the same dispatch, as many after
    the last look as took about `INTERVAL` then, and agree there on signals.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._wait, self._done = 1, 0

    def is_due(self) -> bool:
        """Tells whether to look now; counts a dispatch."""
        if not hosts.are_several():
            due = time.monotonic() - self._last > INTERVAL
        else:
            self._done += 1
            due = self._done >= self._wait
            if due:
                self._agree()
        if due:
            self._last = time.monotonic()
        return due

    def _agree(self) -> None:
        """Agrees on signals, and on when to look again by the slowest's clock."""
        milliseconds = int(1000 * (time.monotonic() - self._last))
        found = hosts.gather([milliseconds, interrupts.heard()])
        passed, numbers = max(found[:, 0].tolist()) / 1000, found[:, 1].tolist()
        interrupts.agree(numbers)
        fitting = int(self._done * INTERVAL / max(passed, 0.001))
        # Step by step: the first dispatch is compiled.
        self._wait, self._done = max(1, min(fitting, 2 * self._wait)), 0
