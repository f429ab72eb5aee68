"""A network in eval mode, jitted: a class's logit, its gradient, its probability."""

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxmed.explain.batches import in_batches
from jaxmed.explain.scores import class_logits, class_probs, two_logits
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, Parts, merge, split


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
