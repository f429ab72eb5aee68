"""A network in eval mode, jitted: a class's logit, its gradient, its probability."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxmed.explain.scores import class_logits, class_probs, two_logits
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, Parts, merge, split
from jaxmed.runtime.progress import progress


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
    count = len(arrays[0])
    size = min(batch_size, count)
    results = []
    shown = progress(description, count, unit="images")
    with shown if description else nullcontext(lambda amount: None) as advance:
        for start in range(0, count, size):
            # The last batch is filled up with the last image, to keep the shape.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            done = compute(*(array[rows] for array in arrays))
            kept = min(size, count - start)
            results.append(
                jax.tree.map(lambda rows, kept=kept: np.asarray(rows)[:kept], done)
            )
            advance(kept)
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
