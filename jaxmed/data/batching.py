"""Order of images in an epoch, and batches of one shape."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np

from jaxmed.errors import InputError, unknown

Batch = tuple[np.ndarray, np.ndarray]
SAMPLINGS = ("shuffle", "balanced")


def check_sampling(sampling: str, task: str) -> None:
    """Checks that an epoch's images can be drawn so.

    Raises:
        InputError: an unknown way, or balanced where images have no one class.
    """
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if sampling == "balanced" and task == "multilabel":
        raise InputError(
            "Balanced sampling is not defined for a multilabel task, where an image "
            "has no one class. Balanced class weights are."
        )


def draw_epoch(
    labels: np.ndarray, sampling: str, *, seed: int, epoch: int
) -> np.ndarray:
    """Returns the images of an epoch in their order, by one of `SAMPLINGS`.

    "shuffle" is `shuffled`, "balanced" is `drawn_balanced`.
    """
    if sampling == "balanced":
        return drawn_balanced(labels, seed=seed, epoch=epoch)
    return shuffled(len(labels), seed=seed, epoch=epoch)


def shuffled(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns a permutation of `count` images that only seed and epoch decide.

    Args:
        count: images in the split.
        seed: of the run.
        epoch: counted from the start of the run, not of the phase.
    """
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


def drawn_balanced(labels: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Draws as many images as there are, with replacement, every class as often.

    An image of class c is drawn with probability proportional to 1 / n_c, of n_c
    images: torch's `WeightedRandomSampler` with these weights. Only labels, seed and
    epoch decide.

    Args:
        labels: int (n,), class indices; a class without images is not drawn.
        seed, epoch: see `shuffled`.

    Returns:
        int32 (n,), indices of images, some of them several times, others not at all.
    """
    weights = 1 / np.bincount(labels)[labels]
    rng = np.random.default_rng([seed, epoch])
    drawn = rng.choice(len(labels), len(labels), p=weights / weights.sum())
    return drawn.astype(np.int32)


def batches(order: np.ndarray, batch_size: int, devices: int = 1) -> Iterator[Batch]:
    """Cuts an order of images into batches of one shape.

    The last batch is filled up with repeats of image `order[0]` that the mask
    marks as padding, so that one compiled step serves all batches and yet computes
    what torch computes on its short last batch.

    Args:
        order: int32 (count,), indices of images.
        batch_size: images a batch.
        devices: the batch's shape is rounded up to a multiple of it.

    Yields:
        Indices, int32 (rows,), and a mask, float32 (rows,), 1 for images and 0 for
        padding.
    """
    rows = -(-batch_size // devices) * devices
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        indices = np.full(rows, order[0], np.int32)
        indices[: len(chosen)] = chosen
        mask = np.zeros(rows, np.float32)
        mask[: len(chosen)] = 1
        yield indices, mask


def windows(
    order: np.ndarray, batch_size: int, devices: int = 1, accumulate: int = 1
) -> Iterator[Batch]:
    """Stacks the batches whose gradients make one optimizer step together.

    Args:
        order, batch_size, devices: see `batches`.
        accumulate: batches a step. A last, short window is filled up with batches
            that the mask marks as padding altogether.

    Yields:
        Indices, int32 (accumulate, rows), and a mask, float32 (accumulate, rows).
    """
    stream = batches(order, batch_size, devices)
    while window := list(islice(stream, accumulate)):
        indices, masks = map(np.stack, zip(*window, strict=True))
        missing = ((0, accumulate - len(window)), (0, 0))
        yield np.pad(indices, missing, mode="edge"), np.pad(masks, missing)


def map_batches(
    compute: Callable[[np.ndarray], Any], count: int, batch_size: int, devices: int = 1
) -> Iterator[tuple[np.ndarray, Any]]:
    """Compute something of every image in batches of one shape, the last one padded.

    A batch's results are fetched after the next one is dispatched, so that its images
    are read while the device computes.

    Args:
        compute: of the indices of a padded batch, int32 (rows,), a pytree of arrays
            with a row for each, which may still be being computed.
        count: images.
        batch_size, devices: see `batches`.

    Yields:
        Indices, int32 (n,), and their results in NumPy's arrays; no padding in either.
    """
    pending = None
    for indices, mask in batches(np.arange(count, dtype=np.int32), batch_size, devices):
        following = indices[: int(mask.sum())], compute(indices)
        if pending:
            yield _fetch(*pending)
        pending = following
    if pending:
        yield _fetch(*pending)


def _fetch(indices: np.ndarray, results: Any) -> tuple[np.ndarray, Any]:
    count = len(indices)
    return indices, jax.tree.map(lambda rows: np.asarray(rows)[:count], results)
