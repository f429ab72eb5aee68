"""What is minimised and what is predicted, by task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from scipy.special import expit, log_expit, log_softmax, softmax


def is_single(num_logits: int, task: str) -> bool:
    """Tells whether a binary task has one logit, which speaks for class 1.

    Otherwise it has two, one for each class, as the other tasks have.
    """
    return task == "binary" and num_logits == 1


def image_losses(logits: jax.Array, labels: jax.Array, task: str) -> jax.Array:
    """Computes a loss per image.

    Args:
        logits: float32 (n, k); of a binary task (n, 2) or (n, 1), see `is_single`.
        labels: int32 (n,) class indices, or 0 and 1 of shape (n, k) if multi-label.
        task: see `jaxmed.data.dataset.Task`.

    Returns:
        float32 (n,): cross-entropy of the softmax, or, of a single logit and if
        multi-label, binary cross-entropy of the sigmoids averaged over the labels, in
        nats; torch's `CrossEntropyLoss` and `BCEWithLogitsLoss` before their mean
        over images.
    """
    if is_single(logits.shape[-1], task):
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], labels)
    if task == "multilabel":
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=-1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def image_hits(logits: ArrayLike, labels: ArrayLike, task: str) -> jax.Array:
    """Says per image whether the decision is right: float32 (n,), 0 or 1.

    The decision is the most probable class: of a single logit class 1 if it is above
    0. If multi-label it is a probability of at
    least one half per label, and the value is the share of labels that are right.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if is_single(logits.shape[-1], task):
        return ((logits[:, 0] > 0) == (labels == 1)).astype(jnp.float32)
    if task == "multilabel":
        return ((logits >= 0) == (labels == 1)).mean(axis=-1, dtype=jnp.float32)
    return (logits.argmax(axis=-1) == labels).astype(jnp.float32)


def probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Maps logits (n, k) to probabilities, float32 (n, k).

    The softmax of the row; if multi-label the sigmoid of each logit. A single logit
    (n, 1) gives (n, 2): one minus its sigmoid, and its sigmoid.
    """
    wide = logits.astype(np.float64)
    if is_single(logits.shape[-1], task):
        return expit(np.concatenate([-wide, wide], axis=-1)).astype(np.float32)
    probs = expit(wide) if task == "multilabel" else softmax(wide, axis=-1)
    return probs.astype(np.float32)


def mean_loss(logits: np.ndarray, labels: np.ndarray, task: str) -> float:
    """Averages `image_losses` over a split, in double precision on the host."""
    wide = logits.astype(np.float64)
    if is_single(logits.shape[-1], task):
        wide, task = wide[:, 0], "multilabel"
    if task == "multilabel":
        return float(-np.where(labels == 1, log_expit(wide), log_expit(-wide)).mean())
    rows = np.arange(len(labels))
    return float(-log_softmax(wide, axis=-1)[rows, labels].mean())
