"""Groups shared out among parts, so that each part gets its share of every class.

Every group of images (an image alone, or all of a patient) goes whole to the part that
lacks its classes most, the groups that weigh most first: the greedy way of
scikit-learn's `StratifiedGroupKFold`, which makes equal folds only, with the shares of
Sechidis et al., "On the Stratification of Multi-label Data", ECML 2011. So one way
serves given shares and folds, patients and images, and labels of every task.
"""

from collections.abc import Sequence

import numpy as np

from jaxmed.data.dataset import MISSING, Task


def allocate(
    members: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Gives groups to parts, so that each part gets its share of every class.

    Args:
        members: (g, k), how many images of each class a group has; no row of zeros.
        shares: of the parts, with the sum 1.
        rng: decides among groups that weigh alike.

    Returns:
        The part of each group, int (g,).
    """
    weights = members / np.maximum(members.sum(axis=0), 1)
    wanted = np.asarray(shares)[:, None]
    filled = np.zeros((len(shares), members.shape[1]))
    order = rng.permutation(len(members))
    heavy = np.round(weights.sum(axis=1)[order], 12)
    parts = np.empty(len(members), int)
    for group in order[np.argsort(-heavy, kind="stable")]:
        weight = weights[group]
        # How much the squared distance to the shares, relative to them, grows.
        growth = (weight * (2 * (filled - wanted) + weight) / wanted).sum(axis=1)
        # Rounded, so that the last bits of a sum decide nothing.
        parts[group] = best = int(np.argmin(np.round(growth / weight.sum(), 9)))
        filled[best] += weight
    return parts


def memberships(
    labels: np.ndarray, task: Task, class_names: Sequence[str]
) -> np.ndarray:
    """Counts images one by one, as `allocate` wants them.

    Args:
        labels, task, class_names: see `Dataset`; k classes.

    Returns:
        bool (n, k + m + 1): whether an image has a class; whether that is known, for
        the m classes of which it is not known of every image; and True, for being an
        image.
    """
    one = np.ones((len(labels), 1), bool)
    if task != "multilabel":
        return np.hstack([labels[:, None] == np.arange(len(class_names)), one])
    known = labels != MISSING
    return np.hstack([labels == 1, known[:, ~known.all(axis=0)], one])
