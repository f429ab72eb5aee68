"""One epoch: what a feed gives, step by step."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.runtime import distributed, interrupts
from jaxmed.runtime.progress import Advance
from jaxmed.runtime.sharding import replicate
from jaxmed.training.divergence import check_finite
from jaxmed.training.inputs.resident import Feed
from jaxmed.training.state import TrainState, zero_totals


@dataclass(kw_only=True)
class Interim:
    """What `train_epoch` calls after its steps.

    Attributes:
        saved: where checkpoints go, None for nowhere.
        save: saves a state and how many steps of the epoch are done.
        every: steps between two of them; 0 to save only when asked to stop.
        steps: of the whole epoch, whose end is not saved here.
        done: of them.
    """

    saved: Checkpoints | None
    save: Callable[[TrainState, int], None]
    every: int
    steps: int
    done: int

    def __call__(self, state: TrainState, done: int) -> None:
        """Saves if it is time.

        Raises:
            Diverged: it is, and the state is not worth saving.
            InputError: a checkpoint could not be written.
            Interrupted: the program is to stop, and all is saved.
        """
        before, self.done = self.done, done
        if self.saved:
            self.saved.check()
            due = self.every and done // self.every > before // self.every
            if interrupts.stop_requested() or (due and done < self.steps):
                check_finite(state)
                self.save(state, done)
        stop_if_asked(self.saved)


def stop_if_asked(saved: Checkpoints | None) -> None:
    """Ends the training if the program is to stop, once what was saved is written.

    Raises:
        InputError: it cannot be written.
        Interrupted: all is written.
    """
    if interrupts.stop_requested():
        if saved:
            distributed.run_on_process_zero(saved.wait)
        interrupts.stop_if_requested()


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
        if not distributed.is_multiprocess():
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
        found = distributed.all_gather([milliseconds, interrupts.signals_received()])
        passed, numbers = max(found[:, 0].tolist()) / 1000, found[:, 1].tolist()
        interrupts.agree_on_stop(numbers)
        fitting = int(self._done * INTERVAL / max(passed, 0.001))
        # Step by step: the first dispatch is compiled.
        self._wait, self._done = max(1, min(fitting, 2 * self._wait)), 0


def train_epoch(
    step: Callable[..., TrainState],
    state: TrainState,
    feed: Feed,
    order: np.ndarray,
    *,
    scale: Any,
    mesh: Mesh,
    advance: Advance,
    start: int = 0,
    after: Callable[[TrainState, int], None] | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Trains one epoch, or what is left of it.

    Args:
        step: what the feed's `program` gave, with the frozen weights and the key.
        state: its buffers are given away. Where `start` is not 0, its totals are those
            of the steps before.
        feed: where the images come from.
        order: the images of the epoch, int32 (count,).
        scale: a factor on the learning rates.
        mesh: the devices.
        advance: shows progress, see `jaxmed.runtime.progress`.
        start: steps of the epoch that are done already.
        after: called with the state and the steps of the epoch that are done, after
            every dispatch: one step or several, see the feed. It may copy the state,
            not keep it.

    Returns:
        The state, and "train_loss" and "train_accuracy" over the whole epoch.

    Raises:
        Diverged: the loss, or the weights, are not finite; it is looked at now and
            then, and at the end.
    """
    if start == 0:
        state = state._replace(totals=replicate(zero_totals(), mesh))
    looks, pending, done = Looks(), 0, start
    # Closed, so that processes which read ahead end with it, however it ends.
    with closing(feed.parts(order, start)) as parts:
        for part in parts:
            state = step(state, **part.arguments, scale=scale)
            pending, done = pending + part.images, done + part.steps
            look = looks.is_due()
            if after:
                after(state, done)
            if look:
                advance(pending, **averages(state))
                pending = 0
    trained = averages(state)
    advance(pending, **trained)
    return state, trained


def averages(state: TrainState) -> dict[str, float]:
    """Returns loss and accuracy over the epoch so far, as training saw them.

    NaN as long as no label was known.

    Raises:
        Diverged: they are not finite, or the weights are not.
    """
    check_finite(state)
    totals = {name: np.float64(value) for name, value in state.totals.items()}
    with np.errstate(invalid="ignore"):
        return {
            "train_loss": float(totals["loss"] / totals["weight"]),
            "train_accuracy": float(totals["hits"] / totals["images"]),
        }
