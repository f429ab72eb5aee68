"""Work done some images at a time."""

from collections.abc import Callable
from contextlib import nullcontext

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxmed.progress import progress


def in_batches(
    compute: Callable[..., ArrayLike],
    *arrays: np.ndarray | jax.Array,
    batch_size: int,
    description: str,
) -> np.ndarray:
    """Computes something of every image, all batches being of one size.

    Args:
        compute: of rows of the arrays, something with a row for each.
        arrays: of the same length, at least 1.
        batch_size: images at a time.
        description: shown with the progress; "" shows none.

    Returns:
        What `compute` gives, for all rows.
    """
    count = len(arrays[0])
    size = min(batch_size, count)
    results = []
    shown = progress(description, count, unit="images")
    with shown if description else nullcontext(lambda amount: None) as advance:
        for start in range(0, count, size):
            # The last batch is filled up with the last image, to keep the shape.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            done = compute(*(array[rows] for array in arrays))
            kept = min(size, count - start)
            results.append(np.asarray(done)[:kept])
            advance(kept)
    return np.concatenate(results)
