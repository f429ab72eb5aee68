"""Which images to explain: right ones and wrong ones, of all classes."""

import numpy as np


def select_images(
    truth: np.ndarray, probs: np.ndarray, count: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses rightly and wrongly classified images, half and half.

    An image is right if its most probable class is one of its true ones. Both halves
    are spread over the predicted classes: one image of each class, then a second of
    each, and so on. Right ones are drawn at random; of the wrong ones the most
    confident come first, being the worst mistakes. Where there are too few of a kind,
    there are more of the other.

    Args:
        truth: bool (n, k), the true classes.
        probs: float (n, k).
        count: how many to choose, at least 0.
        seed: of the random choice.

    Returns:
        The indices of the right ones and of the wrong ones, `count` together, or n if
        that is fewer.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(len(probs))
    predicted = probs.argmax(axis=1)
    right = truth[rows, predicted]
    rights, wrongs = rows[right], rows[~right]
    drawn = random.permutation(rights)
    confidence = probs[wrongs, predicted[wrongs]]
    worst = wrongs[np.argsort(-confidence, kind="stable")]
    wrong_count = min(len(wrongs), max(count // 2, count - len(rights)))
    return (
        _spread(drawn, predicted)[: count - wrong_count],
        _spread(worst, predicted)[:wrong_count],
    )


def _spread(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Moves the first row of each group to the front, then the second of each."""
    seen: dict[int, int] = {}
    rounds = []
    for row in rows:
        group = int(groups[row])
        rounds.append(seen.get(group, 0))
        seen[group] = rounds[-1] + 1
    return rows[np.argsort(rounds, kind="stable")]
