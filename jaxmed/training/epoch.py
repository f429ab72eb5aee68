"""One epoch: what a feed gives, step by step."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxmed.runtime.progress import Advance
from jaxmed.runtime.sharding import replicate
from jaxmed.training.divergence import check_finite
from jaxmed.training.inputs.resident import Feed
from jaxmed.training.looks import Looks
from jaxmed.training.state import TrainState, zero_totals


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
