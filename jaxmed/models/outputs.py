"""A network's outputs: from logits to probabilities, for every task."""

from collections.abc import Sequence

import numpy as np
from scipy import special


def is_single(num_logits: int, task: str) -> bool:
    """Tells whether a binary task has one logit, which speaks for class 1.

    Otherwise it has two, one for each class, as the other tasks have.
    """
    return task == "binary" and num_logits == 1


def probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Maps logits (n, k) to probabilities, float32 (n, k).

    The softmax of the row; if multi-label the sigmoid of each logit. A single logit
    (n, 1) gives (n, 2): one minus its sigmoid, and its sigmoid.
    """
    wide = logits.astype(np.float64)
    if is_single(logits.shape[-1], task):
        return special.expit(np.concatenate([-wide, wide], axis=-1)).astype(np.float32)
    probs = (
        special.expit(wide) if task == "multilabel" else special.softmax(wide, axis=-1)
    )
    return probs.astype(np.float32)


def average_probabilities(each: Sequence[np.ndarray]) -> np.ndarray:
    """Average probabilities (n, k) of an image's views or of several networks.

    Returns:
        float32 (n, k), as `probabilities`.
    """
    return np.stack(each).mean(axis=0, dtype=np.float64).astype(np.float32)
