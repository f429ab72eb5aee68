"""Losses whose weights come from the training labels."""

from collections.abc import Sequence

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.training.loss import Loss

WEIGHTINGS = ("none", "balanced")


def make_loss(
    name: str = "cross_entropy",
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
    class_weights: str = "none",
    labels: np.ndarray,
    task: str,
    class_names: Sequence[str],
    single_logit: bool = False,
) -> Loss:
    """Makes the loss of a training.

    Args:
        name, label_smoothing, focal_gamma: see `Loss`.
        class_weights: "none"; or "balanced", by `balanced_weights` for a softmax and
            by `positive_weights` for sigmoids.
        labels: of the training split, see `jaxmed.data.dataset.Split`.
        task: see `jaxmed.data.dataset.Task`.
        class_names: a name per class.
        single_logit: whether a binary task's model has one logit.

    Raises:
        InputError: an unknown name, a number out of its range, or a class that cannot
            be balanced.
    """
    if class_weights not in WEIGHTINGS:
        raise unknown("kind of class weights", class_weights, WEIGHTINGS)
    of_class: tuple[float, ...] = ()
    of_label: tuple[float, ...] = ()
    if class_weights == "balanced":
        if task == "multilabel":
            of_label = positive_weights(labels, class_names)
        elif single_logit:
            of_label = positive_weights(labels, class_names[1:])
        else:
            of_class = balanced_weights(labels, class_names)
    return Loss(
        name=name,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        class_weights=of_class,
        positive_weights=of_label,
    )


def balanced_weights(
    labels: np.ndarray, class_names: Sequence[str]
) -> tuple[float, ...]:
    """Weighs classes by N / (K n_c), so that all count alike in the loss.

    For N images in K classes, n_c of them in class c: scikit-learn's "balanced" (King
    and Zeng, Political Analysis 2001).

    Args:
        labels: int (n,), class indices.
        class_names: a name per class.

    Raises:
        InputError: a class has no images.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if count == 0:
            raise InputError(
                f"Class {name!r} has no images in the training split, so its weight "
                "is not defined. Train without balanced class weights."
            )
    return tuple((len(labels) / (len(counts) * counts)).tolist())


def positive_weights(
    labels: np.ndarray, class_names: Sequence[str]
) -> tuple[float, ...]:
    """Weighs positives by negatives / positives, so that both count alike per label.

    Args:
        labels: 0, 1 and, not counted, `MISSING`, (n, k); or (n,), of a single logit.
        class_names: a name per label; of a single logit that of class 1.

    Raises:
        InputError: a label has no positive images, or no negative ones.
    """
    columns = labels.reshape(len(labels), -1)
    positives = (columns == 1).sum(axis=0)
    negatives = (columns == 0).sum(axis=0)
    for name, *counts in zip(class_names, positives, negatives, strict=True):
        if min(counts) == 0:
            which = "positive" if counts[0] == 0 else "negative"
            raise InputError(
                f"{name!r} has no {which} images in the training split, so its weight "
                "is not defined. Train without balanced class weights."
            )
    return tuple((negatives / positives).tolist())
