"""Fit an out-of-distribution detector to the layers of a model.

Each layer's covariance is shrunk (Ledoit and Wolf, "A well-conditioned estimator for
large-dimensional covariance matrices", 2004), because there may be fewer images than
features. `jaxmed.runs.detector` has the score.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.runs.detector import LayerStatistics, OutOfDistributionDetector

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset, Split
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.inference.activations import ActivationStore
    from jaxmed.models.classifier import Classifier

# Images, of training and of validation, that are enough to estimate distributions of
# features: with 500 of training, scores separate sources as well.
MAX_IMAGES = 1000


def fit_detector(
    model: "Classifier",
    data: "Dataset",
    preprocessing: "Preprocessing",
    *,
    store: "ActivationStore | None" = None,
) -> OutOfDistributionDetector:
    """Fit a detector to the layers of a model on training and validation images.

    Args:
        model: trained.
        data: at most `MAX_IMAGES` of its training and of its validation images are
            used, random samples that are the same every time.
        preprocessing: what the model was trained with.
        store: of activations, for other heads on the same backbone.
    """
    from jaxmed.inference.features import compute_layer_means, layer_widths

    train, val = (
        compute_layer_means(
            model,
            _sample(split),
            preprocessing=preprocessing,
            store=store,
            description=f"Layers of {name}",
        )
        for name, split in (("train", data.train), ("val", data.val))
    )
    return fit_features(train, layer_widths(model, preprocessing), val)


def _sample(split: "Split") -> "Split":
    if len(split) <= MAX_IMAGES:
        return split
    drawn = np.random.default_rng(0).choice(len(split), MAX_IMAGES, replace=False)
    return split.take(np.sort(drawn))


def fit_features(
    features: np.ndarray, widths: Sequence[int], val_features: np.ndarray
) -> OutOfDistributionDetector:
    """Fit a detector to features of layers.

    Args:
        features: (n, d), of training images, those of all layers side by side.
        widths: of the layers, d in all.
        val_features: (m, d), of validation images.

    Returns:
        A detector that holds no image, only statistics of their features.
    """
    ends = np.cumsum(widths)[:-1]
    pairs = zip(
        np.split(features, ends, axis=1),
        np.split(val_features, ends, axis=1),
        strict=True,
    )
    detector = OutOfDistributionDetector(
        layers=tuple(_fit_layer(*pair) for pair in pairs), distances=np.empty(0)
    )
    return replace(detector, distances=np.sort(detector.measure(val_features)))


def _fit_layer(features: np.ndarray, val_features: np.ndarray) -> LayerStatistics:
    from sklearn.covariance import ledoit_wolf

    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    covariance, _ = ledoit_wolf(wide - mean, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    # Of a feature that never differs, and nothing is shrunk to: any difference is much.
    smallest = max(variances[-1], 1.0) * np.finfo(np.float32).eps ** 2
    whitening = (axes / np.sqrt(np.maximum(variances, smallest))).astype(np.float32)
    layer = LayerStatistics(
        whitening=whitening, mean=(mean @ whitening).astype(np.float32)
    )
    distances = layer.measure(val_features)
    # Where no distance differs, any other is much.
    spread = max(float(distances.std()), np.finfo(np.float32).eps)
    return replace(layer, center=float(distances.mean()), spread=spread)
