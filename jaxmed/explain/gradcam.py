"""Grad-CAM under its own name."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxmed.explain.explain import explain
from jaxmed.models.classifier import Classifier


def grad_cam(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    **settings: Any,
) -> np.ndarray:
    """Computes a Grad-CAM map for each image: `explain` with its usual method."""
    return explain(model, images, classes, method="grad_cam", **settings)
