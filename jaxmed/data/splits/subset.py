"""Subsets of the training split, for learning from few images."""

from dataclasses import replace

import numpy as np

from jaxmed.data.dataset import Dataset
from jaxmed.errors import InputError


def draw_subset(data: Dataset, train_images: int, seed: int = 0) -> Dataset:
    """Keeps that many training images; validation and test stay whole.

    Classes keep their shares, by largest remainders, and at least one image each. In
    a multilabel task, where images have no one class, an image of each label is drawn,
    rare labels first, and then plainly from the others. With one
    seed a smaller subset lies within a larger one, but for the rounding of shares.

    Args:
        data: the whole data set.
        train_images: how many to keep; 0 means all.
        seed: of the draw, at least 0.

    Returns:
        The data set with those training images, in the order they had.

    Raises:
        InputError: more images than there are, or fewer than there are classes.
    """
    if train_images == 0:
        return data
    count = len(data.train)
    if not 0 < train_images <= count:
        raise InputError(
            f"train_images must be from 1 to {count:,}, the training images of "
            f"{data.source}, or 0 for all of them; got {train_images:,}."
        )
    if data.task == "multilabel":
        chosen = _draw_by_label(data, train_images, seed)
    else:
        chosen = _draw_by_class(data, train_images, seed)
    return replace(data, train=data.train.take(np.sort(chosen)))


def share_out(total: int, counts: np.ndarray) -> np.ndarray:
    """Shares out a number among classes: largest remainders, at least one each.

    Args:
        total: from the number of classes to the sum of `counts`.
        counts: int (k,), how many each class has, at least 1.

    Returns:
        int (k,), at most `counts`, with the sum `total`.
    """
    available = counts.sum()
    # In integers, in which equal remainders are equal: the first class then wins.
    quotas = total * counts.astype(np.int64)
    shares = np.maximum(quotas // available, 1)
    while (over := shares.sum() - total) != 0:
        lacking = quotas - shares * available
        if over < 0:
            shares[np.argmax(lacking)] += 1
        else:
            # The one image of a rare class is paid for by the others.
            shares[np.argmin(np.where(shares > 1, lacking, quotas.sum()))] -= 1
    return shares


def _draw_by_label(data: Dataset, train_images: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(data.train))
    has = data.train.labels[order] == 1
    first: list[int] = []
    for label in np.argsort(has.sum(axis=0), kind="stable"):
        if has[:, label].any() and not has[first, label].any():
            first.append(int(np.argmax(has[:, label])))
    if train_images < len(first):
        raise InputError(
            f"train_images must be at least {len(first)}, for an image of each label "
            f"in the training images of {data.source}; got {train_images}."
        )
    return order[[*first, *np.setdiff1d(np.arange(len(order)), first)]][:train_images]


def _draw_by_class(data: Dataset, train_images: int, seed: int) -> np.ndarray:
    present, counts = np.unique(data.train.labels, return_counts=True)
    if train_images < len(present):
        raise InputError(
            f"train_images must be at least {len(present)}, one for each class in the "
            f"training images of {data.source}; got {train_images}."
        )
    drawn = []
    for label, share in zip(present, share_out(train_images, counts), strict=True):
        members = np.flatnonzero(data.train.labels == label)
        # A stream per class: no class's draw depends on the others' shares.
        rng = np.random.default_rng([seed, label])
        drawn.append(rng.permutation(members)[:share])
    return np.concatenate(drawn)
