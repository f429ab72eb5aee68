"""What the steps of a phase begin with: images, or what enters a later stage."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxmed.training.state import Images


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The rows that a phase trains and validates on.

    Attributes:
        train: the images or, with `entry`, the cached maps, and their labels. Either
            on the devices, or as NumPy arrays of which every step is sent its rows.
            Row v · n + i is view v of image i, of n images.
        val: the same of the val images, in one view.
        entry: the stage that the rows enter; None if they are images.
        views: of every train image.
    """

    train: Images
    val: np.ndarray
    entry: str | None = None
    views: int = 1

    def rows(self, order: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        """Returns the rows of an epoch's images: in each epoch another view of each.

        The views take turns, and `seed` draws which one is an image's first.

        Args:
            order: of the images, int32 (count,).
            seed: of the run.
            epoch: counted from the start of the run.
        """
        if self.views == 1:
            return order
        count = np.shape(self.train.labels)[0] // self.views
        first = np.random.default_rng(seed).integers(self.views, size=count)
        view = (first[order] + epoch) % self.views
        return (order + count * view).astype(np.int32)

    def take(self, rows: np.ndarray) -> tuple[Images, np.ndarray]:
        """Returns the images to hand to a step, and the places of `rows` in them."""
        if isinstance(self.train.images, jax.Array):
            return self.train, rows
        images, labels = (np.asarray(part)[rows.ravel()] for part in self.train)
        places = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
        return Images(images, labels), places
