"""Grad-CAM: the parts of an image that speak for a class."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, merge, split
from jaxmed.progress import progress

# Keeps a map that is zero everywhere from becoming 0/0; as in pytorch-grad-cam.
EPSILON = 1e-7
# Stands for the class that the model predicts.
PREDICTED = -1


def grad_cam(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    batch_size: int = 32,
    description: str = "Grad-CAM",
) -> np.ndarray:
    """Computes a Grad-CAM map for each image, from the last feature map.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", ICCV 2017, eq. 1 and 2. The map is scaled to [0, 1]
    and enlarged bilinearly to the image, as pytorch-grad-cam does it. If the model has
    a single logit, it speaks for class 1, and its negative for class 0.

    Args:
        model: used in eval mode whatever mode its layers are in; not changed.
        images: float32 (n, h, w, c), normalised as for the model.
        classes: int (n,), the class of each image to explain; None explains the one
            that the model predicts, with the largest logit.
        batch_size: images at a time. Each shape and kind of model compiles once.
        description: shown with the progress.

    Returns:
        float32 (n, h, w) in [0, 1]: 1 speaks most for the class. It is zero
        everywhere if nothing in the image speaks for it.

    Raises:
        InputError: no images, or classes that the model does not have.
    """
    count = np.shape(images)[0] if np.ndim(images) == 4 else 0
    if not count:
        raise InputError(
            "grad_cam needs images of the shape (n, h, w, c) with n at least 1, got "
            f"{np.shape(images)}."
        )
    images = jnp.asarray(images, jnp.float32)
    chosen = _checked(classes, count, max(2, model.head.out.out_features))
    definition, params, stats = split(model)
    batch_size = min(batch_size, count)
    maps = []
    with progress(description, count, unit="images") as advance:
        for start in range(0, count, batch_size):
            # The last batch is filled up with the last image, to keep the shape.
            rows = np.minimum(np.arange(start, start + batch_size), count - 1)
            batch = _maps(definition, params, stats, images[rows], chosen[rows])
            size = min(batch_size, count - start)
            maps.append(np.asarray(batch)[:size])
            advance(size)
    return np.concatenate(maps)


def _checked(classes: ArrayLike | None, count: int, num_classes: int) -> np.ndarray:
    if classes is None:
        return np.full(count, PREDICTED)
    chosen = np.asarray(classes)
    if chosen.shape != (count,) or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(
            f"grad_cam needs one integer class for each of the {count} images, got "
            f"{chosen.dtype} of the shape {chosen.shape}."
        )
    if (chosen < 0).any() or (chosen >= num_classes).any():
        raise InputError(
            f"grad_cam's classes must be 0 to {num_classes - 1}, as the model has "
            f"{num_classes}; got {chosen.min()} to {chosen.max()}."
        )
    return chosen


@partial(jax.jit, static_argnames="definition")
def _maps(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    classes: jax.Array,
) -> jax.Array:
    """Computes the maps of a batch; `classes` may be `PREDICTED`."""
    model = merge(definition, params, stats)
    set_training_norms(model, ())
    features = model.features(images)
    # Weights and maps are sums over it, whatever the network computes in.
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))

    def score(features: jax.Array) -> jax.Array:
        logits = model.classify(features)
        if logits.shape[1] == 1:
            logits = jnp.concatenate([-logits, logits], axis=1)
        wanted = jnp.where(classes == PREDICTED, logits.argmax(axis=1), classes)
        # Images do not depend on each other in eval mode: the gradient of the sum is
        # each image's own.
        return jnp.take_along_axis(logits, wanted[:, None], axis=1).sum()

    gradients = jax.grad(score)(features)
    weights = gradients.mean(axis=(1, 2), keepdims=True)  # eq. 1
    maps = jax.nn.relu((weights * features).sum(axis=3))  # eq. 2
    shape = images.shape[:3]
    # Half-pixel centres and repeated edges, as cv2's INTER_LINEAR.
    enlarged = jax.image.resize(_scaled(maps), shape, "bilinear", antialias=False)
    return _scaled(enlarged)


def _scaled(maps: jax.Array) -> jax.Array:
    """Scales each map (n, h, w) to [0, 1]."""
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    return maps / (EPSILON + maps.max(axis=(1, 2), keepdims=True))
