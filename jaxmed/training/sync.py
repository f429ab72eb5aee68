"""Synchronization with the devices: when to read the running sums, and their checks.

Steps are dispatched without waiting for their results. Reading the loss waits for all
of them, so it is done at intervals, and so are the exchanges of several processes.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmed.runtime import distributed, interrupts
from jaxmed.training.state import TrainState

# Seconds between two synchronizations.
INTERVAL = 0.5


class SyncInterval:
    """Decides after every dispatch whether to synchronize.

    One process goes by its clock. Several must do it after the same dispatch: after as
    many as took about `INTERVAL` the last time, and there they agree on signals.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._dispatches, self._due_after = 0, 1

    def is_due(self) -> bool:
        """Count a dispatch, and return whether to synchronize now."""
        if distributed.is_multiprocess():
            self._dispatches += 1
            due = self._dispatches >= self._due_after
            if due:
                self._agree()
        else:
            due = time.monotonic() - self._last > INTERVAL
        if due:
            self._last = time.monotonic()
        return due

    def _agree(self) -> None:
        """Agree on signals, and on the next interval by the slowest clock."""
        milliseconds = int(1000 * (time.monotonic() - self._last))
        gathered = distributed.all_gather([milliseconds, interrupts.signals_received()])
        interrupts.agree_on_stop(gathered[:, 1].tolist())
        seconds = max(gathered[:, 0].tolist()) / 1000
        fitting = int(self._dispatches * INTERVAL / max(seconds, 0.001))
        # At most doubled: the first dispatch includes compilation.
        self._due_after = max(1, min(fitting, 2 * self._due_after))
        self._dispatches = 0


class Diverged(Exception):
    """Loss or weights are not finite since a step of the phase, counted from 0."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


def check_finite(state: TrainState) -> None:
    """Wait for the devices and check that losses and weights have been finite so far.

    Raises:
        Diverged: a loss was not, with the first such step, or the weights are not,
            with the step just done.
    """
    step = int(state.totals["diverged"])
    if step >= 0:
        raise Diverged(step)
    if not _all_finite((state.params, state.stats)):
        raise Diverged(int(state.step) - 1)


@jax.jit
def _all_finite(weights: Any) -> jax.Array:
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)]
    return jnp.stack(leaves).all()


def running_averages(state: TrainState) -> dict[str, float]:
    """Return "train_loss" and "train_accuracy" over the epoch so far.

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
