"""Tells how unlike the training images an image is, by a network's pooled features.

The distance is Mahalanobis' from the nearest class, all classes sharing one covariance
(Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
NeurIPS 2018, equation 2), which is shrunk (Ledoit and Wolf, "A well-conditioned
estimator for large-dimensional covariance matrices", 2004), because there may be fewer
images than features. What distance is much is read off the validation images, which
were not trained on.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from jaxmed.errors import InputError
from jaxmed.runtime.files import atomic_write

# Farther away than this share of the validation images is worth a warning.
FLAGGED = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfDistributionDetector:
    """What the features of a model's training and validation images were like.

    Attributes:
        whitening: float32 (d, d); features times this have the identity as the
            covariance within classes.
        means: float32 (c, d), the whitened mean of each class.
        distances: float64 (n,), of the validation images, ascending.
    """

    whitening: np.ndarray
    means: np.ndarray
    distances: np.ndarray

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Computes distances from the nearest class, float64 (n,), of (n, d)."""
        return _distances(features, self.whitening, self.means)

    def rank(self, features: np.ndarray) -> np.ndarray:
        """Computes how unlike images are.

        Args:
            features: (n, d).

        Returns:
            float64 (n,) in [0, 1]: the share of validation images that are less far
            away. 1 is farther than all of them; above `FLAGGED` is worth a warning.
        """
        found = np.searchsorted(self.distances, self.measure(features), side="left")
        return found / len(self.distances)


def fit_likeness(
    features: np.ndarray, labels: np.ndarray, val_features: np.ndarray
) -> OutOfDistributionDetector:
    """Learns what is usual.

    Args:
        features: (n, d), of training images.
        labels: int (n,), class indices; of several labels (n, k), which do not divide
            the images into classes: there is then one mean.
        val_features: (m, d), of validation images.

    Returns:
        Numbers that hold no image, but means of their features.
    """
    from sklearn.covariance import ledoit_wolf

    wide = features.astype(np.float64)
    several = labels.ndim == 2
    present, place = np.unique(
        np.zeros(len(wide), int) if several else labels, return_inverse=True
    )
    means = np.stack([wide[place == i].mean(axis=0) for i in range(len(present))])
    covariance, _ = ledoit_wolf(wide - means[place], assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    # Of a feature that never differs, and nothing is shrunk to: any difference is much.
    smallest = max(variances[-1], 1.0) * np.finfo(np.float32).eps ** 2
    whitening = (axes / np.sqrt(np.maximum(variances, smallest))).astype(np.float32)
    whitened = (means @ whitening).astype(np.float32)
    distances = np.sort(_distances(val_features, whitening, whitened))
    return OutOfDistributionDetector(
        whitening=whitening, means=whitened, distances=distances
    )


def write_likeness(path: Path, likeness: OutOfDistributionDetector) -> None:
    """Writes an .npz file that `read_likeness` reads."""
    arrays = {
        field.name: getattr(likeness, field.name)
        for field in fields(OutOfDistributionDetector)
    }
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


def read_likeness(path: Path) -> OutOfDistributionDetector:
    """Reads what `write_likeness` wrote.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return OutOfDistributionDetector(
                **{f.name: arrays[f.name] for f in fields(OutOfDistributionDetector)}
            )
    except Exception as error:
        # On damaged bytes NumPy and zipfile raise whatever they stumble over.
        raise InputError(
            f"{path} cannot be read ({error}). Restore it; without the file, images "
            "are not compared with those of training."
        ) from error


def _distances(
    features: np.ndarray, whitening: np.ndarray, means: np.ndarray
) -> np.ndarray:
    whitened = (features @ whitening).astype(np.float64)
    nearest = np.full(len(whitened), np.inf)
    for mean in means:
        away = np.linalg.norm(whitened - mean, axis=1)
        nearest = np.minimum(nearest, away)
    return nearest
