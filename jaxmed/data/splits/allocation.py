"""Stratified allocation of groups to splits or folds.

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


def spread(
    parts: np.ndarray,
    has: np.ndarray,
    shares: Sequence[float],
    views: Sequence[Sequence[int]],
) -> np.ndarray:
    """Moves groups until every class is where it has to be, as far as that can be.

    What `allocate` gives has the right shares; of a class of few groups these can all
    be in one part. Groups are moved one by one, each time the one that brings most
    classes to where they lack, and of equal ones that which shifts the shares least.

    Args:
        parts: of each group, int (g,), as `allocate` returns it.
        has: bool (g, k), whether a group has a class.
        shares: of the p parts.
        views: parts that are trained on together; every class has to be in each of
            these, before each part has it too.

    Returns:
        The part of each group, int (g,).
    """
    parts, has = parts.copy(), has.astype(np.int64)
    counts = np.zeros((len(shares), has.shape[1]), np.int64)
    np.add.at(counts, parts, has)
    total = counts.sum(axis=0)
    some = total > 0
    wanted = np.asarray(shares)[:, None] * np.maximum(total, 1)

    def cost(counts: np.ndarray) -> tuple[int, int, float]:
        untrained = sum(int((counts[[*v]].sum(axis=0) == 0) @ some) for v in views)
        lacking = int(((counts == 0) & some).sum())
        return (
            untrained,
            lacking,
            round(float(((counts - wanted) ** 2 / wanted).sum()), 9),
        )

    best = cost(counts)
    while best[:2] > (0, 0):
        lacking = np.flatnonzero(((counts == 0) & some).any(axis=0))
        # Groups that are alike in these are alike here: one of each kind is tried.
        groups = np.flatnonzero(has[:, lacking].any(axis=1))
        signatures = np.column_stack([parts[groups], has[groups]])
        groups = groups[np.unique(signatures, axis=0, return_index=True)[1]]
        moves = []
        for group in groups.tolist():
            for part in range(len(shares)):
                if part != parts[group]:
                    moved = counts.copy()
                    moved[parts[group]] -= has[group]
                    moved[part] += has[group]
                    moves.append((cost(moved), group, part))
        if not moves or min(moves)[0][:2] >= best[:2]:
            return parts
        best, group, part = min(moves)
        counts[parts[group]] -= has[group]
        counts[part] += has[group]
        parts[group] = part
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
    ones = np.ones((len(labels), 1), bool)
    if task != "multilabel":
        return np.hstack([labels[:, None] == np.arange(len(class_names)), ones])
    known = labels != MISSING
    return np.hstack([labels == 1, known[:, ~known.all(axis=0)], ones])
