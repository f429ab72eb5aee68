"""The number that is explained: the logit of a class, and its probability."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier

# Stands for the class that the model predicts.
PREDICTED = -1


def class_logits(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Takes each image's logit of its class.

    Args:
        logits: float (n, k). A single logit speaks for class 1, and its negative for
            class 0.
        classes: int (n,), from 0 on, or `PREDICTED` for the largest logit.

    Returns:
        float (n,).
    """
    return _taken(two_logits(logits), classes)


def two_logits(logits: jax.Array) -> jax.Array:
    """Puts the negative of a single logit, for class 0, before it."""
    if logits.shape[1] > 1:
        return logits
    return jnp.concatenate([-logits, logits], axis=1)


def class_probs(
    logits: jax.Array, classes: jax.Array, *, multilabel: bool = False
) -> jax.Array:
    """Takes each image's probability of its class; see `class_logits`.

    Args:
        multilabel: whether each logit has a sigmoid of its own, and not all of them a
            softmax. A single logit always has a sigmoid.
    """
    if multilabel or logits.shape[1] == 1:
        return jax.nn.sigmoid(class_logits(logits, classes))
    return _taken(jax.nn.softmax(logits), classes)


def _taken(values: jax.Array, classes: jax.Array) -> jax.Array:
    wanted = jnp.where(classes == PREDICTED, values.argmax(axis=1), classes)
    return jnp.take_along_axis(values, wanted[:, None], axis=1)[:, 0]


def checked_images(images: ArrayLike) -> jax.Array:
    """Returns images to explain as float32 (n, h, w, c).

    Raises:
        InputError: none, or another shape.
    """
    if np.ndim(images) != 4 or not np.shape(images)[0]:
        raise InputError(
            "An explanation needs images of the shape (n, h, w, c) with n at least 1, "
            f"got {np.shape(images)}."
        )
    return jnp.asarray(images, jnp.float32)


def checked_classes(
    classes: ArrayLike | None, model: Classifier, count: int
) -> np.ndarray:
    """Returns the classes to explain as int (n,); `PREDICTED` where they are None.

    Raises:
        InputError: not one integer for each image, or one that the model does not have.
    """
    if classes is None:
        return np.full(count, PREDICTED)
    chosen = np.asarray(classes)
    if chosen.shape != (count,) or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(
            f"An explanation needs one integer class for each of the {count} images, "
            f"got {chosen.dtype} of the shape {chosen.shape}."
        )
    num_classes = max(2, model.head.out.out_features)
    if (chosen < 0).any() or (chosen >= num_classes).any():
        raise InputError(
            f"The classes to explain must be 0 to {num_classes - 1}, as the model has "
            f"{num_classes}; got {chosen.min()} to {chosen.max()}."
        )
    return chosen
