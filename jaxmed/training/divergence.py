"""A training whose loss, or weights, became infinite or not a number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.errors import InputError
from jaxmed.training.state import TrainState


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


def diverged_at(
    step: int,
    epoch: int,
    indices: np.ndarray,
    ids: tuple[str, ...],
    saved: Checkpoints | None,
) -> InputError:
    """Returns the error for a training that diverged, to be raised by the caller.

    Args:
        step: of the epoch, counted from 0. Weights that overflow show in the loss of
            the step after.
        epoch: counted from 1.
        indices: of the images that the step saw.
        ids: of all training images.
        saved: whose last checkpoint is good, for nothing is saved that is not finite.
    """
    names = ", ".join(ids[index] for index in indices.tolist())
    good = ""
    if saved:
        saved.wait()
        if saved.latest:
            path = saved.folder / str(saved.latest)
            good = f" The last good checkpoint is of {saved.latest.describe()}, {path}."
    return InputError(
        "The training loss, or the weights after the step, became infinite or not a "
        f"number in epoch {epoch}, step {step + 1}, on the images {names}. A lower "
        f"learning rate usually helps.{good}"
    )


def check_validation(loss: float, epoch: int) -> None:
    """Checks the loss on the validation split before anything is chosen by it.

    Raises:
        InputError: it is not finite.
    """
    if not np.isfinite(loss):
        raise InputError(
            f"The validation loss became {loss} in epoch {epoch}. A lower learning "
            "rate usually helps."
        )
