"""A part of the training split: how many of each class, which, and what stays."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from jaxmed.data.dataset import Dataset, Split, number_ids
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.subset import draw_subset, share_out
from jaxmed.errors import InputError


def make_split(name, counts, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = rng.integers(0, 256, (len(labels), 4, 4, 1), np.uint8)
    return Split(images=images, labels=labels, ids=number_ids(name, len(labels)))


def make_dataset(*counts):
    return Dataset(
        name="toy",
        source="npz:toy.npz",
        task="multiclass",
        class_names=tuple("abcdef"[: len(counts)]),
        train=make_split("train", counts),
        val=make_split("val", [2] * len(counts), seed=1),
        test=make_split("test", [3] * len(counts), seed=2),
        image_size=4,
    )


@pytest.fixture
def data():
    return make_dataset(60, 30, 10)


def test_classes_keep_their_shares(data):
    for count in (10, 20, 50, 100):
        train = draw_subset(data, count).train
        shares = np.bincount(train.labels).tolist()
        assert shares == [count * 6 // 10, count * 3 // 10, count // 10]


def test_shares_are_scikit_learns_where_no_class_is_rare():
    rng = np.random.default_rng(0)
    for _ in range(30):
        counts = rng.integers(20, 60, 4)
        total = int(rng.integers(40, 80))
        labels = np.repeat(np.arange(4), counts)
        theirs, _ = train_test_split(labels, train_size=total, stratify=labels)
        # Which of two equal remainders wins is drawn there, and the first one here.
        remainders = {Fraction(total * int(c), int(counts.sum())) % 1 for c in counts}
        if len(remainders) == 4:
            np.testing.assert_array_equal(share_out(total, counts), np.bincount(theirs))


def test_every_class_gets_an_image_and_none_more_than_it_has():
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(1, 5, 6) ** rng.integers(1, 6, 6)
        total = int(rng.integers(6, counts.sum() + 1))
        shares = share_out(total, counts)
        assert shares.sum() == total
        assert (shares >= 1).all()
        assert (shares <= counts).all()
    assert share_out(4, np.array([997, 1, 1, 1])).tolist() == [1, 1, 1, 1]
    assert share_out(10, np.array([500, 497, 1, 1, 1])).tolist() == [4, 3, 1, 1, 1]


def test_images_labels_and_ids_stay_together_and_in_order(data):
    train = draw_subset(data, 20, seed=3).train
    rows = [data.train.ids.index(name) for name in train.ids]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(train.images, data.train.images[rows])
    np.testing.assert_array_equal(train.labels, data.train.labels[rows])


def test_validation_and_test_are_untouched(data):
    part = draw_subset(data, 20)
    assert part.val is data.val
    assert part.test is data.test


def test_the_seed_decides_which_images(data):
    first = draw_subset(data, 20, seed=1)
    assert draw_subset(data, 20, seed=1).fingerprint == first.fingerprint
    others = {draw_subset(data, 20, seed=seed).fingerprint for seed in range(2, 8)}
    assert len(others - {first.fingerprint, data.fingerprint}) == 6


def test_every_image_has_the_same_chance():
    data = make_dataset(12, 8)
    drawn = [i for seed in range(400) for i in draw_subset(data, 10, seed).train.ids]
    counts = np.unique(drawn, return_counts=True)[1]
    # Binomial with n = 400, p = 1/2: five standard deviations are 50.
    assert len(counts) == 20
    assert np.abs(counts - 200).max() < 50


def test_a_smaller_subset_lies_within_a_larger_one(data):
    small, large = (set(draw_subset(data, n, seed=5).train.ids) for n in (10, 40))
    assert small < large


def test_nought_and_all_are_the_whole(data):
    assert draw_subset(data, 0) is data
    assert draw_subset(data, 100).fingerprint == data.fingerprint


def test_a_class_without_training_images_stays_without():
    part = draw_subset(make_dataset(6, 0, 3), 3)
    assert np.bincount(part.train.labels).tolist() == [2, 0, 1]


def test_multilabel_images_are_drawn_with_some_of_every_label(data):
    rare = np.zeros((100, 3), np.int32)
    rare[:, 0], rare[7, 1], rare[[7, 9], 2] = 1, 1, 1
    train = replace(data.train, labels=rare)
    parts = {
        name: replace(getattr(data, name), labels=np.eye(3, dtype=np.int32)[labels])
        for name, labels in (("val", data.val.labels), ("test", data.test.labels))
    }
    several = replace(data, task="multilabel", train=train, **parts)
    inside: set[str] = set()
    for count in (1, 2, 5, 50, 100):
        part = draw_subset(several, count, seed=4)
        assert part.train.labels.shape == (count, 3)
        assert (part.train.labels == 1).any(axis=0).all()
        assert inside <= set(part.train.ids)
        inside = set(part.train.ids)
    drawn = {i for seed in range(60) for i in draw_subset(several, 30, seed).train.ids}
    assert len(drawn) == 100
    apart = replace(
        several,
        train=replace(train, labels=np.eye(3, dtype=np.int32)[data.train.labels]),
    )
    with pytest.raises(InputError, match="at least 3, for an image of each label"):
        draw_subset(apart, 2)


def test_impossible_numbers_are_explained(data):
    for wrong in (101, -1):
        sentence = rf"from 1 to 100, the training .* npz:toy.npz, .* got {wrong}\."
        with pytest.raises(InputError, match=sentence):
            draw_subset(data, wrong)
    with pytest.raises(InputError, match="must be at least 3, one for each class"):
        draw_subset(data, 2)


def test_load_dataset_draws_it(tmp_path):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((20, 4, 4), np.uint8)
        arrays[f"{split}_labels"] = np.arange(20) % 2
    np.savez(tmp_path / "toy.npz", **arrays)
    source = f"npz:{tmp_path}/toy.npz"
    part = load_dataset(source, train_images=6, subset_seed=4)
    assert part.train.ids == draw_subset(load_dataset(source), 6, seed=4).train.ids
    assert len(part.val) == 20
