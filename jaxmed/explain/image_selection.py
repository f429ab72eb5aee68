"""Selection of images to explain: worst, least certain, and some at random."""

import numpy as np

KINDS = ("loss", "uncertain", "random")


def select_images(
    truth: np.ndarray,
    probs: np.ndarray,
    known: np.ndarray,
    count: int,
    *,
    exclusive: bool,
    seed: int = 0,
) -> dict[int, tuple[str, ...]]:
    """Select images worth looking at, of three kinds in equal parts.

    "loss" are those with the largest log loss: the most confident mistakes. "uncertain"
    are those whose decision was closest: the smallest probability of the most probable
    class, or, of several labels, of each one's yes or no on average. "random" are drawn
    from all images, and are the only ones that tell what is usual.

    Args:
        truth: bool (n, k), the true classes.
        probs: float (n, k).
        known: bool (n, k), whether `truth` is known; what is not is left out.
        count: how many to choose, at least 0.
        exclusive: each image is of one class; else labels are independent.
        seed: of the random draw.

    Returns:
        The kinds of each chosen image by its index, `count` of them, or n if that is
        fewer. An image may be of several kinds.

    Examples:
        >>> truth = np.eye(2, dtype=bool)[[0, 0, 1]]
        >>> probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55]])
        >>> known = np.ones_like(truth)
        >>> select_images(truth, probs, known, 2, exclusive=True)
        {1: ('loss',), 2: ('uncertain', 'random')}
    """
    losses = _losses(truth, probs, known, exclusive)
    doubts = 1 - probs.max(axis=1)
    if not exclusive:
        doubts = _mean(np.minimum(probs, 1 - probs), known)
    orders = {
        "loss": np.argsort(-losses, kind="stable"),
        "uncertain": np.argsort(-doubts, kind="stable"),
        "random": np.random.default_rng(seed).permutation(len(probs)),
    }
    chosen: dict[int, tuple[str, ...]] = {}
    # Each kind in turn takes its next image, until there are enough.
    for row_of_kind in zip(*orders.values(), strict=True):
        for kind, row in zip(KINDS, map(int, row_of_kind), strict=True):
            if row in chosen or len(chosen) < count:
                chosen[row] = (*chosen.get(row, ()), kind)
        if len(chosen) >= count:
            break
    return chosen


def _losses(truth, probs, known, exclusive: bool) -> np.ndarray:
    """Log losses (n,), as `jaxmed.evaluation` has them on average."""
    likelihoods = np.where(truth, probs, 1 - probs)
    losses = -np.log(np.maximum(likelihoods, np.finfo(np.float64).eps))
    return losses[truth] if exclusive else _mean(losses, known)


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return (values * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
