"""What the steps of a phase begin with: images, or what enters a later stage."""

from dataclasses import dataclass

import numpy as np

from jaxmed.data.images.lazy import ImageArray


@dataclass(frozen=True)
class Inputs:
    """The rows that a phase trains and validates on.

    Attributes:
        train: the images or, with `start_stage`, cached activations. Row v · n + i is
            view v of image i, of n images.
        labels: of these rows, int32 (rows,) or (rows, k).
        val: the same of the val images, in one view.
        start_stage: the stage that the rows are the input of; None if they are images.
        views: of every train image.
        on_disk: whether the maps are, so that they are to be streamed from there.
    """

    train: ImageArray
    labels: np.ndarray
    val: ImageArray
    start_stage: str | None = None
    views: int = 1
    on_disk: bool = False

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
        count = len(self.labels) // self.views
        first = np.random.default_rng(seed).integers(self.views, size=count)
        view = (first[order] + epoch) % self.views
        return (order + count * view).astype(np.int32)
