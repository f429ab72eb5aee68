"""Out-of-distribution scores of a network's layers, and the file that they are from.

Of every stage of the network the mean over positions is taken, and its Mahalanobis
distance from the training images (Lee et al., "A Simple Unified Framework for Detecting
Out-of-Distribution Samples", NeurIPS 2018, section 2.2, with one mean for all classes).
An image's distance is the largest of these, each in standard deviations of those of
the validation images, which were not trained on; its score is the share of validation
images that are nearer. docs/external_validation.md compares it with other scores.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.errors import InputError
from jaxmed.runtime.files import atomic_write

# An image with a higher score counts as out of distribution.
OOD_THRESHOLD = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStatistics:
    """Features of a layer: their distribution, and the distances of validation images.

    Attributes:
        whitening: float32 (d, d); features times this have the identity as covariance.
        mean: float32 (d,), of the whitened features.
        center, spread: mean and standard deviation of the distances of val.
    """

    whitening: np.ndarray
    mean: np.ndarray
    center: float = 0.0
    spread: float = 1.0

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Compute Mahalanobis distances: (n, d) to float64 (n,)."""
        whitened = features @ self.whitening - self.mean
        return np.linalg.norm(whitened.astype(np.float64), axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfDistributionDetector:
    """Statistics of layers, and distances of validation images.

    `jaxmed.inference.out_of_distribution.fit_detector` fits one.

    Attributes:
        layers: of the network, in its order.
        distances: float64 (n,), of the validation images, ascending.

    Examples:
        >>> layer = LayerStatistics(
        ...     whitening=np.eye(2, dtype=np.float32), mean=np.zeros(2, np.float32)
        ... )
        >>> detector = OutOfDistributionDetector(
        ...     layers=(layer,), distances=np.array([0.5, 1.0, 1.5, 2.0])
        ... )
        >>> detector.score(np.array([[0.0, 1.2], [3.0, 0.0]])).tolist()
        [0.5, 1.0]
    """

    layers: tuple[LayerStatistics, ...]
    distances: np.ndarray

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Compute distances: float64 (n,), the largest of the layers'.

        Args:
            features: float32 (n, d), of all layers side by side, as
                `jaxmed.inference.features.Network` gives them.
        """
        ends = np.cumsum([len(layer.mean) for layer in self.layers])
        parts = np.split(features, ends[:-1], axis=1)
        deviations = [
            (layer.measure(part) - layer.center) / layer.spread
            for layer, part in zip(self.layers, parts, strict=True)
        ]
        return np.max(deviations, axis=0)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Compute out-of-distribution scores.

        Args:
            features: see `measure`.

        Returns:
            float64 (n,) in [0, 1]: the share of validation images that are nearer. 1
            is farther than all of them; above `OOD_THRESHOLD` is worth a warning.
        """
        nearer = np.searchsorted(self.distances, self.measure(features), side="left")
        return nearer / len(self.distances)


def write_detector(path: Path, detector: OutOfDistributionDetector) -> None:
    """Write an .npz file that `read_detector` reads."""
    arrays: dict[str, Any] = {"distances": detector.distances}
    for i, layer in enumerate(detector.layers):
        arrays |= {f"{name}_{i}": value for name, value in vars(layer).items()}
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


def read_detector(path: Path) -> OutOfDistributionDetector:
    """Read what `write_detector` wrote.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            names = [field.name for field in fields(LayerStatistics)]
            count = sum(name.startswith("mean_") for name in arrays.files)
            layers = [
                LayerStatistics(**{name: arrays[f"{name}_{i}"] for name in names})
                for i in range(count)
            ]
            return OutOfDistributionDetector(
                layers=tuple(layers), distances=arrays["distances"]
            )
    except Exception as error:
        # On damaged bytes NumPy and zipfile raise whatever they stumble over.
        raise InputError(
            f"{path} cannot be read ({error}). Restore it, or delete it; without the "
            "file, images get no out-of-distribution score."
        ) from error
