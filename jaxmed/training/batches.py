"""The order of images, and batches of one shape."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


def shuffled(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns a permutation of `count` images that only seed and epoch decide.

    Args:
        count: images in the split.
        seed: of the run.
        epoch: counted from the start of the run, not of the phase.
    """
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


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
    """Stacks the batches whose gradients make one optimiser step together.

    Args:
        order, batch_size, devices: see `batches`.
        accumulate: batches a step. A last, short window is filled up with batches
            that the mask marks as padding altogether.

    Yields:
        Indices, int32 (accumulate, rows), and a mask, float32 (accumulate, rows).
    """
    found = batches(order, batch_size, devices)
    while window := list(islice(found, accumulate)):
        indices, masks = map(np.stack, zip(*window, strict=True))
        missing = ((0, accumulate - len(window)), (0, 0))
        yield np.pad(indices, missing, mode="edge"), np.pad(masks, missing)
