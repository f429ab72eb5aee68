"""The order of an epoch's images, and its batches."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch.utils.data import WeightedRandomSampler

from jaxmed.data.batching import (
    batches,
    check_sampling,
    draw_epoch,
    drawn_balanced,
    shuffled,
    windows,
)
from jaxmed.errors import InputError


def test_every_image_is_in_one_batch_of_one_shape():
    order = shuffled(10, seed=3, epoch=1)
    cut = list(batches(order, 4, devices=3))
    assert [indices.shape for indices, _ in cut] == [(6,)] * 3
    seen = np.concatenate([indices[mask == 1] for indices, mask in cut])
    np.testing.assert_array_equal(seen, order)
    assert [int(mask.sum()) for _, mask in cut] == [4, 4, 2]
    padding = np.concatenate([indices[mask == 0] for indices, mask in cut])
    assert set(padding) == {order[0]}


def test_order_depends_on_seed_and_epoch_only():
    first = shuffled(50, seed=0, epoch=1)
    np.testing.assert_array_equal(first, shuffled(50, seed=0, epoch=1))
    for seed, epoch in ((0, 2), (1, 1)):
        assert not np.array_equal(first, shuffled(50, seed=seed, epoch=epoch))
    np.testing.assert_array_equal(np.sort(first), np.arange(50))


def test_windows_are_the_batches_filled_up_with_padding():
    order = shuffled(21, seed=0, epoch=1)
    plain = list(batches(order, 4, devices=3))
    stacked = list(windows(order, 4, devices=3, accumulate=4))
    assert [indices.shape for indices, _ in stacked] == [(4, 6)] * 2
    rows = [row for indices, _ in stacked for row in indices]
    masks = [row for _, mask in stacked for row in mask]
    for i, (indices, mask) in enumerate(plain):
        np.testing.assert_array_equal(rows[i], indices)
        np.testing.assert_array_equal(masks[i], mask)
    assert len(plain) == 6
    assert not np.any(masks[6:])
    assert masks[0].dtype == np.float32
    assert rows[-1].dtype == np.int32
    assert np.isin(rows[6:], order).all()


def imbalanced():
    """Labels of 900, 90 and 10 images, and of a class without one."""
    labels = np.repeat([0, 1, 3], [900, 90, 10]).astype(np.int32)
    return np.random.default_rng(0).permutation(labels)


def test_a_balanced_epoch_is_as_long_and_depends_on_seed_and_epoch_only():
    labels = imbalanced()
    first = drawn_balanced(labels, seed=0, epoch=1)
    assert first.shape == (1000,)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(first, drawn_balanced(labels, seed=0, epoch=1))
    np.testing.assert_array_equal(
        first, draw_epoch(labels, "balanced", seed=0, epoch=1)
    )
    for seed, epoch in ((0, 2), (1, 1)):
        other = drawn_balanced(labels, seed=seed, epoch=epoch)
        assert not np.array_equal(first, other)
    np.testing.assert_array_equal(
        draw_epoch(labels, "shuffle", seed=0, epoch=1), shuffled(1000, seed=0, epoch=1)
    )


def test_classes_are_drawn_alike_and_so_are_the_images_of_a_class():
    labels = imbalanced()
    drawn = [drawn_balanced(labels, seed=4, epoch=epoch) for epoch in range(60)]
    counts = np.bincount(np.concatenate(drawn), minlength=1000)
    by_class = np.bincount(labels, weights=counts)
    assert by_class[2] == 0
    assert chisquare(by_class[[0, 1, 3]]).pvalue > 0.001
    for label in (0, 1, 3):
        assert chisquare(counts[labels == label]).pvalue > 0.001
    # A third of the draws goes to each class: many of 900 images are left out.
    assert len(np.unique(drawn[0])) < 500


def test_balanced_sampling_is_torchs_weighted_sampler():
    labels, epochs = imbalanced(), 40
    weights = 1 / np.bincount(labels)[labels]
    generator = torch.Generator().manual_seed(0)
    sampler = WeightedRandomSampler(
        torch.tensor(weights), len(labels), replacement=True, generator=generator
    )
    theirs = [np.array(list(sampler)) for _ in range(epochs)]
    ours = [drawn_balanced(labels, seed=0, epoch=epoch) for epoch in range(epochs)]
    # How many images of each class, and how many different ones, an epoch has.
    table = [
        np.bincount(labels[np.concatenate(drawn)])[[0, 1, 3]]
        for drawn in (ours, theirs)
    ]
    assert chi2_contingency(table).pvalue > 0.001
    different = [[len(np.unique(one)) for one in drawn] for drawn in (ours, theirs)]
    means, errors = np.mean(different, axis=1), np.std(different, axis=1)
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors) / np.sqrt(epochs)


def test_sampling_that_is_not_defined_is_explained():
    check_sampling("balanced", "ordinal")
    check_sampling("shuffle", "multilabel")
    with pytest.raises(InputError, match="Did you mean 'balanced'"):
        check_sampling("ballanced", "binary")
    with pytest.raises(InputError, match="not defined for a multilabel task"):
        check_sampling("balanced", "multilabel")
