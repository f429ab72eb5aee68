"""Out-of-distribution scores of pooled features, and the file that they are from.

The distance is Mahalanobis' from the nearest class, all classes sharing one covariance
(Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
NeurIPS 2018, equation 2). The score of an image is the share of the validation images,
which were not trained on, that are nearer.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from jaxmed.errors import InputError
from jaxmed.runtime.files import atomic_write

# An image with a higher score counts as out of distribution.
OOD_THRESHOLD = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfDistributionDetector:
    """Means and covariance of training features, and distances of validation images.

    `jaxmed.inference.out_of_distribution.fit_detector` fits one.

    Attributes:
        whitening: float32 (d, d); features times this have the identity as the
            covariance within classes.
        means: float32 (c, d), the whitened mean of each class.
        distances: float64 (n,), of the validation images, ascending.

    Example:
        >>> import numpy as np
        >>> detector = OutOfDistributionDetector(
        ...     whitening=np.eye(2, dtype=np.float32),
        ...     means=np.zeros((1, 2), np.float32),
        ...     distances=np.array([0.5, 1.0, 1.5, 2.0]),
        ... )
        >>> detector.score(np.array([[0.0, 1.2], [3.0, 0.0]])).tolist()
        [0.5, 1.0]
    """

    whitening: np.ndarray
    means: np.ndarray
    distances: np.ndarray

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Compute distances from the nearest class: (n, d) to float64 (n,)."""
        whitened = (features @ self.whitening).astype(np.float64)
        nearest = np.full(len(whitened), np.inf)
        for mean in self.means:
            distances = np.linalg.norm(whitened - mean, axis=1)
            nearest = np.minimum(nearest, distances)
        return nearest

    def score(self, features: np.ndarray) -> np.ndarray:
        """Compute out-of-distribution scores.

        Args:
            features: (n, d).

        Returns:
            float64 (n,) in [0, 1]: the share of validation images that are nearer. 1
            is farther than all of them; above `OOD_THRESHOLD` is worth a warning.
        """
        nearer = np.searchsorted(self.distances, self.measure(features), side="left")
        return nearer / len(self.distances)


def write_detector(path: Path, detector: OutOfDistributionDetector) -> None:
    """Write an .npz file that `read_detector` reads."""
    with atomic_write(path) as temporary:
        np.savez(temporary, **vars(detector))


def read_detector(path: Path) -> OutOfDistributionDetector:
    """Read what `write_detector` wrote.

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
            f"{path} cannot be read ({error}). Restore it, or delete it; without the "
            "file, images get no out-of-distribution score."
        ) from error
