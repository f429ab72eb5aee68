"""Insertion and deletion: the score as the pixels that a map points to come and go.

Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models",
BMVC 2018, section 4.3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from jaxmed.errors import InputError
from jaxmed.explain.network import (
    checked_images,
    class_probabilities,
    explained_classes,
    in_batches,
)
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import split

# The blur of the paper's code, 11 pixels wide with a sigma of 5, is for this size.
_BLUR, _SIZE = 5, 224


class Curves(NamedTuple):
    """How the probability of a class changes with the pixels.

    Attributes:
        shares: of the pixels changed, the most important first: float (s + 1,), 0 to 1.
        probs: of each image's class, float32 (n, s + 1).
    """

    shares: np.ndarray
    probs: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """The areas under the curves (n,), in [0, 1]."""
        return np.trapezoid(self.probs, self.shares, axis=1)


def deletion(
    model: Classifier,
    images: ArrayLike,
    maps: np.ndarray,
    classes: ArrayLike | None = None,
    *,
    baseline: float = 0.0,
    **settings: Any,
) -> Curves:
    """Take pixels out of the image; a faithful map's area is small.

    Args:
        model: used in eval mode; not changed.
        images: float32 (n, h, w, c), normalized as for the model.
        maps: float (n, h, w), larger where it matters more; of equal pixels the upper
            left goes first.
        classes: int (n,), as the maps were made for; None for the predicted ones.
        baseline: what stands in a pixel's place.
        **settings: `steps` (50), at how many shares the model is asked; `multilabel`
            (False), whether each logit has a sigmoid of its own; `batch_size` (32).

    Raises:
        InputError: maps or classes that do not fit the images.
    """
    images = checked_images(images)
    end = jnp.full_like(images, baseline)
    return _curves(model, images, end, images, maps, classes, "Deletion", **settings)


def insertion(
    model: Classifier,
    images: ArrayLike,
    maps: np.ndarray,
    classes: ArrayLike | None = None,
    **settings: Any,
) -> Curves:
    """Put pixels into the blurred image; a faithful map's area is large.

    Args and Raises: see `deletion`.
    """
    images = checked_images(images)
    start = jnp.asarray(blurred(np.asarray(images)))
    return _curves(model, start, images, images, maps, classes, "Insertion", **settings)


def blurred(images: np.ndarray) -> np.ndarray:
    """Blur (n, h, w, c) as the paper's code does, wider in larger images."""
    radius = max(1, round(_BLUR * min(images.shape[1:3]) / _SIZE))
    return gaussian_filter(images, radius, mode="nearest", radius=radius, axes=(1, 2))


def importance_ranks(maps: ArrayLike, images: ArrayLike) -> np.ndarray:
    """Rank each map's pixels, 0 for the most important: int32 (n, h, w).

    Raises:
        InputError: there is no map of finite numbers for each of the images.
    """
    maps, shape = np.asarray(maps), np.shape(images)[:3]
    if maps.shape != shape or not np.isfinite(maps).all():
        raise InputError(
            f"Each image needs a map of its size, finite numbers of the shape {shape}; "
            f"got the shape {maps.shape}{' with NaN' * (maps.shape == shape)}."
        )
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    return np.argsort(order, axis=1).astype(np.int32).reshape(shape)


def _curves(
    model: Classifier,
    start: jax.Array,
    end: jax.Array,
    images: jax.Array,
    maps: np.ndarray,
    classes: ArrayLike | None,
    description: str,
    *,
    steps: int = 50,
    multilabel: bool = False,
    batch_size: int = 32,
) -> Curves:
    """Go from `start` to `end`, pixel by pixel in the order of importance."""
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}.")
    ranks = importance_ranks(maps, images)
    classes = explained_classes(model, images, classes, batch_size)
    parts, shares = split(model), np.linspace(0, 1, steps + 1)
    counts = np.round(shares * ranks[0].size)

    def compute(start, end, ranks, classes):
        probs = []
        for count in counts:
            mixed = jnp.where((ranks < count)[..., None], end, start)
            probs.append(class_probabilities(*parts, mixed, classes, multilabel))
        return jnp.stack(probs, axis=1)

    arrays = (start, end, ranks, classes)
    probs = in_batches(compute, *arrays, batch_size=batch_size, description=description)
    return Curves(shares, probs)
