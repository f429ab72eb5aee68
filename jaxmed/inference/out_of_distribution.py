"""Fit an out-of-distribution detector to a model's pooled features.

The covariance is shrunk (Ledoit and Wolf, "A well-conditioned estimator for
large-dimensional covariance matrices", 2004), because there may be fewer images than
features. `jaxmed.runs.detector` has the score.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.runs.detector import OutOfDistributionDetector

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.inference.activations import ActivationStore
    from jaxmed.models.classifier import Classifier

# Training images that are enough to estimate means and covariance of the features.
MAX_IMAGES = 10_000


def fit_detector(
    model: "Classifier",
    data: "Dataset",
    preprocessing: "Preprocessing",
    *,
    start_stage: str | None = None,
    store: "ActivationStore | None" = None,
) -> OutOfDistributionDetector:
    """Fit a detector to a model's features of training and validation images.

    Args:
        model: trained.
        data: at most `MAX_IMAGES` of its training images are used, a random sample
            that is the same every time.
        preprocessing: what the model was trained with.
        start_stage: the stage whose input is taken from the store; None begins with
            the images.
        store: of activations.
    """
    from jaxmed.inference.features import compute_features

    train = data.train
    if len(train) > MAX_IMAGES:
        drawn = np.random.default_rng(0).choice(len(train), MAX_IMAGES, replace=False)
        train = train.take(np.sort(drawn))
    features = {
        name: compute_features(
            model,
            split,
            preprocessing=preprocessing,
            start_stage=start_stage or "head",
            store=store if start_stage else None,
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
    detector = OutOfDistributionDetector(
        whitening=whitening,
        means=(means @ whitening).astype(np.float32),
        distances=np.empty(0),
    )
    distances = np.sort(detector.measure(val_features))
    return replace(detector, distances=distances)
