"""Out-of-distribution scores of images, by a network's pooled features.

The distance is Mahalanobis' from the nearest class, all classes sharing one covariance
(Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
NeurIPS 2018, equation 2), which is shrunk (Ledoit and Wolf, "A well-conditioned
estimator for large-dimensional covariance matrices", 2004), because there may be fewer
images than features. The score of an image is the share of the validation images,
which were not trained on, that are nearer.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.errors import InputError
from jaxmed.runtime.files import atomic_write

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.models.classifier import Classifier

# An image with a higher score counts as out of distribution.
OOD_THRESHOLD = 0.99
# Training images that are enough to estimate means and covariance of the features.
MAX_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfDistributionDetector:
    """Means and covariance of training features, and distances of validation images.

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
        """Compute distances from the nearest class: (n, d) to float64 (n,)."""
        return _distances(features, self.whitening, self.means)

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


def fit_detector(
    model: "Classifier", data: "Dataset", preprocessing: "Preprocessing"
) -> OutOfDistributionDetector:
    """Fit a detector to a model's pooled features of training and validation images.

    Args:
        model: trained.
        data: at most `MAX_IMAGES` of its training images are used, a random sample
            that is the same every time.
        preprocessing: what the model was trained with.
    """
    from jaxmed.inference.features import compute_features
    from jaxmed.inference.forward import evaluation_batch

    train = data.train
    if len(train) > MAX_IMAGES:
        drawn = np.random.default_rng(0).choice(len(train), MAX_IMAGES, replace=False)
        train = train.take(np.sort(drawn))
    features = {
        name: compute_features(
            model,
            split.images,
            preprocessing=preprocessing,
            task=data.task,
            batch_size=evaluation_batch(data),
            description=f"Features of {name}",
        )
        for name, split in (("train", train), ("val", data.val))
    }
    return fit_features(features["train"], train.labels, features["val"])


def fit_features(
    features: np.ndarray, labels: np.ndarray, val_features: np.ndarray
) -> OutOfDistributionDetector:
    """Fit a detector to features.

    Args:
        features: (n, d), of training images.
        labels: int (n,), class indices; of several labels (n, k), which do not divide
            the images into classes: there is then one mean.
        val_features: (m, d), of validation images.

    Returns:
        A detector that holds no image, only statistics of their features.
    """
    from sklearn.covariance import ledoit_wolf

    wide = features.astype(np.float64)
    multilabel = labels.ndim == 2
    present, index = np.unique(
        np.zeros(len(wide), int) if multilabel else labels, return_inverse=True
    )
    means = np.stack([wide[index == i].mean(axis=0) for i in range(len(present))])
    covariance, _ = ledoit_wolf(wide - means[index], assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    # Of a feature that never differs, and nothing is shrunk to: any difference is much.
    smallest = max(variances[-1], 1.0) * np.finfo(np.float32).eps ** 2
    whitening = (axes / np.sqrt(np.maximum(variances, smallest))).astype(np.float32)
    whitened = (means @ whitening).astype(np.float32)
    distances = np.sort(_distances(val_features, whitening, whitened))
    return OutOfDistributionDetector(
        whitening=whitening, means=whitened, distances=distances
    )


def write_detector(path: Path, detector: OutOfDistributionDetector) -> None:
    """Write an .npz file that `read_detector` reads."""
    arrays = {
        field.name: getattr(detector, field.name)
        for field in fields(OutOfDistributionDetector)
    }
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


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
