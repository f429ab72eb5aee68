"""A torch model with all that is around it: uint8 images to probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from jaxmed.data.transforms.preprocess import sampling_matrices
from jaxmed.data.transforms.test_time import CROPS, list_views
from jaxmed.evaluation.calibration import calibrated_probabilities
from jaxmed.image_stats import Scale

if TYPE_CHECKING:
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.evaluation.calibration import Scaling


class Program(nn.Module):
    """Preprocessing, test-time augmentation, network and calibration.

    Args:
        networks: normalized images, channels first, to logits; the probabilities of
            several are averaged.
        scale: what they want images normalized by.
        preprocessing: what becomes of images before; its own scale is not used.
        views: see `jaxmed.data.transforms.test_time`.
        task: see `jaxmed.data.dataset.Task`.
        scaling: the calibration; None for none.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        scale: Scale,
        preprocessing: "Preprocessing",
        views: str,
        task: str,
        scaling: "Scaling | None",
    ):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._scale = scale
        self._preprocessing = preprocessing
        self._views = views
        self._task = task
        self._scaling = scaling
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict.

        Args:
            images: uint8 (n, h, w, channels of the network), of any size.

        Returns:
            Two times float32 (n, k): probabilities after and before calibration.
        """
        views = self._see(images)
        images = self._normalize(torch.cat(views))
        # The networks of an ensemble are averaged as views are.
        logits = torch.cat([network(images) for network in self.networks])
        return calibrated_probabilities(
            logits.unflatten(0, (len(views) * len(self.networks), -1)),
            task=self._task,
            scaling=self._scaling,
            xp=torch,
        )

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Does the same with arrays."""
        with torch.inference_mode():
            probabilities, scores = self(torch.from_numpy(images))
        return probabilities.numpy(), scores.numpy()

    def _see(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the views, float32 (n, c, size, size) in [0, 255]."""
        size, resizing = self._preprocessing.image_size, self._preprocessing.resizing
        side = resizing.stored_side(size) if self._views in CROPS else size
        down, across = sampling_matrices(
            torch.arange(images.shape[1]),
            torch.arange(images.shape[2]),
            size=size,
            side=side,
            resizing=resizing,
            xp=torch,
        )
        resized = down @ images.permute(0, 3, 1, 2).float() @ across.T
        if self._views == "none":
            return [resized]
        seen = []
        for mirrored, turns, top, left in list_views(self._views, side, size).tolist():
            view = resized.flip(3) if mirrored else resized
            view = view[:, :, top : top + size, left : left + size]
            seen.append(torch.rot90(view, turns, (2, 3)))
        return seen

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in self._scale)
        return (images / 255 - mean) / std
