"""Work done some images at a time."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from jaxmed.runtime.progress import progress


def in_batches(
    compute: Callable[..., Any],
    *arrays: np.ndarray | jax.Array,
    batch_size: int,
    description: str,
) -> Any:
    """Computes something of every image, all batches being of one size.

    Args:
        compute: of rows of the arrays, an array with a row for each, or a tuple of such
            arrays; None in it stays None.
        arrays: of the same length, at least 1.
        batch_size: images at a time.
        description: shown with the progress; "" shows none.

    Returns:
        What `compute` gives, for all rows, in NumPy's arrays.
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
            results.append(
                jax.tree.map(lambda rows, kept=kept: np.asarray(rows)[:kept], done)
            )
            advance(kept)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)
