"""ROAD: removal of pixels that leaves no trace.

Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
ICML 2022. Pixels set to zero leave a pattern that a network reacts to. Here they are
imputed from their neighbors, with a little noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from jaxmed.errors import InputError
from jaxmed.explain.faithfulness.insertion_deletion import importance_ranks
from jaxmed.explain.network import (
    checked_images,
    class_probabilities,
    explained_classes,
    in_batches,
)
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import split

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Direct and diagonal neighbors, and how much each weighs; section 4.2 of the paper.
_NEIGHBORS = tuple(
    (down, right, 1 / 6 if 0 in (down, right) else 1 / 12)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
)


class Road(NamedTuple):
    """How the probability of a class changes as pixels are removed.

    Attributes:
        shares: of the pixels removed, (s,).
        most: the probability less that of the whole image, the most important pixels
            being removed: float32 (n, s). A faithful map's is far below zero.
        least: the same with the least important ones. A faithful map's is near zero.
    """

    shares: tuple[float, ...]
    most: np.ndarray
    least: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Half the mean difference of `least` and `most`, (n,): larger is better."""
        return (self.least - self.most).mean(axis=1) / 2


def road(
    model: Classifier,
    images: ArrayLike,
    maps: np.ndarray,
    classes: ArrayLike | None = None,
    *,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    seed: int = 0,
    multilabel: bool = False,
    batch_size: int = 32,
) -> Road:
    """Removes the most and the least important pixels, a share after the other.

    As pytorch-grad-cam's `ROADCombined`, but of equal pixels the upper left counts as
    more important, where there a map with many zeros loses all its pixels at once.

    Args:
        model, images, maps, classes, multilabel: see `deletion` of `curves`.
        shares: of the pixels, each in (0, 1).
        noise: standard deviation of what is added to imputed values.
        seed: of the noise.
        batch_size: images the network sees at a time.

    Raises:
        InputError: maps or classes that do not fit the images, or wrong shares.
    """
    shares = tuple(shares)
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"ROAD's shares must lie between 0 and 1, got {shares}.")
    images = checked_images(images)
    ranks = importance_ranks(maps, images)
    chosen = explained_classes(model, images, classes, batch_size)
    parts, pixels = split(model), ranks[0].size

    def probs_of(images, classes):
        return np.asarray(class_probabilities(*parts, images, classes, multilabel))

    def compute(images, ranks, classes, indices):
        intact, rows = probs_of(images, classes), np.asarray(images)
        changes = []
        for order in (ranks, pixels - 1 - ranks):
            for share in shares:
                removed = order < round(share * pixels)
                imputed = [
                    impute(row, gone, noise=noise, seed=(seed, int(index)))
                    for row, gone, index in zip(rows, removed, indices, strict=True)
                ]
                changes.append(probs_of(jnp.asarray(imputed), classes) - intact)
        return np.stack(changes, axis=1)

    arrays = (images, ranks, chosen, np.arange(len(ranks)))
    changes = in_batches(compute, *arrays, batch_size=batch_size, description="ROAD")
    return Road(shares, changes[:, : len(shares)], changes[:, len(shares) :])


def impute(
    image: np.ndarray,
    removed: np.ndarray,
    *,
    noise: float = 0.01,
    seed: int | tuple[int, ...] = 0,
) -> np.ndarray:
    """Fills removed pixels with the weighted mean of their neighbors, all at once.

    Neighbors that are removed too are unknowns of the same linear system.

    Args:
        image: float (h, w, c).
        removed: bool (h, w); at least one pixel must stay.
        noise: standard deviation of what is added to the filled values.
        seed: of the noise.

    Returns:
        float32 (h, w, c).
    """
    assert not removed.all(), "nothing is left to impute from"
    filled = image.astype(np.float64)
    rows, columns = np.nonzero(removed)
    count = len(rows)
    unknown = np.full(removed.shape, -1)
    unknown[rows, columns] = np.arange(count)

    # A row of the system for each removed pixel: the sum of its weights times its
    # value, less the removed neighbors' share, is the known neighbors' share.
    total, known = np.zeros(count), np.zeros((count, image.shape[2]))
    equations, unknowns, entries = [], [], []
    for down, right, weight in _NEIGHBORS:
        y, x = rows + down, columns + right
        inside = (y >= 0) & (x >= 0) & (y < removed.shape[0]) & (x < removed.shape[1])
        pixels = np.flatnonzero(inside)
        neighbors = unknown[y[pixels], x[pixels]]
        total[pixels] += weight
        beside_known = pixels[neighbors < 0]
        known[beside_known] += weight * filled[y[beside_known], x[beside_known]]
        equations.append(pixels[neighbors >= 0])
        unknowns.append(neighbors[neighbors >= 0])
        entries.append(np.full(len(equations[-1]), -weight))
    diagonal = np.arange(count)
    coordinates = (
        np.concatenate([*equations, diagonal]),
        np.concatenate([*unknowns, diagonal]),
    )
    system = coo_array(
        (np.concatenate([*entries, total]), coordinates), shape=(count, count)
    )

    # Symmetric and diagonally dominant: this ordering is several times faster.
    symmetric = {"diag_pivot_thresh": 0, "options": {"SymmetricMode": True}}
    factors = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", **symmetric)
    solved = factors.solve(known)
    random = np.random.default_rng(seed)
    filled[rows, columns] = solved + noise * random.standard_normal(solved.shape)
    return filled.astype(np.float32)
