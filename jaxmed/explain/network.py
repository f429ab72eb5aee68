"""Class scores that are explained: logit, gradient and probability in eval mode."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmed.data.batching import map_batches
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, Parts, merge, split
from jaxmed.runtime.progress import progress

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


def in_batches(
    compute: Callable[..., Any],
    *arrays: np.ndarray | jax.Array,
    batch_size: int,
    description: str,
) -> Any:
    """Computes something of every image, all batches being of one size.

    Args:
        compute: of rows of the arrays, an array with a row for each, or a tuple of such
            arrays; None in it stays None.
        arrays: of the same length, at least 1.
        batch_size: images at a time.
        description: shown with the progress; "" shows none.

    Returns:
        What `compute` gives, for all rows, in NumPy's arrays.
    """
    count, results = len(arrays[0]), []
    shown = progress(description, count, unit="images")
    with shown if description else nullcontext(lambda amount: None) as advance:
        for indices, result in map_batches(
            lambda indices: compute(*(array[indices] for array in arrays)),
            count,
            min(batch_size, count),
        ):
            results.append(result)
            advance(len(indices))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def eval_model(parts: Parts) -> Classifier:
    """Builds the model with every BatchNorm in eval mode; usable in jitted code."""
    model = merge(*parts)
    set_training_norms(model, ())
    return model


@partial(jax.jit, static_argnames="definition")
def class_scores(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    classes: jax.Array,
) -> jax.Array:
    """Computes each image's logit of its class, (n,); see `class_logits`."""
    logits = eval_model(Parts(definition, params, stats))(images)
    return class_logits(logits, classes)


@partial(jax.jit, static_argnames="definition")
def class_gradients(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    classes: jax.Array,
) -> jax.Array:
    """Computes the gradient of each image's class logit by its pixels, (n, h, w, c)."""

    def total(images: jax.Array) -> jax.Array:
        # Images do not depend on each other in eval mode: the gradient of the sum is
        # each image's own.
        return class_scores(definition, params, stats, images, classes).sum()

    return jax.grad(total)(images)


@partial(jax.jit, static_argnames=("definition", "multilabel"))
def class_probabilities(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    classes: jax.Array,
    multilabel: bool,
) -> jax.Array:
    """Computes each image's probability of its class, (n,); see `class_probs`."""
    logits = eval_model(Parts(definition, params, stats))(images)
    return class_probs(logits, classes, multilabel=multilabel)


def predicted_classes(
    model: Classifier, images: jax.Array, *, batch_size: int = 32
) -> np.ndarray:
    """Returns the class with the largest logit, int (n,)."""
    parts = split(model)
    return in_batches(
        lambda images: _predicted(*parts, images),
        images,
        batch_size=batch_size,
        description="Prediction",
    )


@partial(jax.jit, static_argnames="definition")
def _predicted(definition: Any, params: Arrays, stats: Arrays, images: jax.Array):
    logits = eval_model(Parts(definition, params, stats))(images)
    return two_logits(logits).argmax(axis=1)


def explained_classes(
    model: Classifier, images: ArrayLike, classes: ArrayLike | None, batch_size: int
) -> np.ndarray:
    """Returns checked classes (n,), the predicted ones where they are None."""
    chosen = checked_classes(classes, model, np.shape(images)[0])
    if classes is not None:
        return chosen
    return predicted_classes(model, jnp.asarray(images), batch_size=batch_size)
