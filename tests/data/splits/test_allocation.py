"""Groups shared out; that splits made of it are balanced is in test_split.py."""

import numpy as np
import pytest

from jaxmed.data.splits.allocation import allocate, memberships


def test_a_rare_class_goes_to_train_first():
    members = np.array([[1, 0, 1]] + [[0, 1, 1]] * 40)
    for seed in range(5):
        parts = allocate(members, (0.7, 0.1, 0.2), np.random.default_rng(seed))
        assert parts[0] == 0
        np.testing.assert_allclose(np.bincount(parts), [29, 4, 8], atol=1)


@pytest.mark.parametrize("seed", range(10))
def test_no_part_lacks_more_than_the_largest_group(seed):
    rng = np.random.default_rng(seed)
    classes, shares = rng.integers(1, 6), rng.dirichlet([5] * rng.integers(2, 8))
    members = rng.integers(0, 5, (rng.integers(60, 200), classes)) + 0.0
    members = np.column_stack([members, members.sum(axis=1) + 1])
    parts = allocate(members, shares, rng)
    assert parts.shape == (len(members),)
    filled = np.stack([members[parts == i].sum(axis=0) for i in range(len(shares))])
    lacking = shares[:, None] * members.sum(axis=0) - filled
    assert np.abs(lacking).max() <= 2 * members.max()


def test_images_are_counted_by_class():
    assert memberships(np.array([1, 0]), "binary", "ab").tolist() == [
        [0, 1, 1],
        [1, 0, 1],
    ]
    labels = np.array([[1, 1], [0, 1]])
    assert memberships(labels, "multilabel", "ab").tolist() == [[1, 1, 1], [0, 1, 1]]


def test_images_are_counted_by_what_is_known_of_them_too():
    labels = np.array([[1, 1], [0, -1]])
    assert memberships(labels, "multilabel", "ab").tolist() == [
        [1, 1, 1, 1],
        [0, 0, 0, 1],
    ]
