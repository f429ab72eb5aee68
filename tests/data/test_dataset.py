"""Checks of `Dataset`, and its fingerprint."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.data.dataset import MISSING, Dataset, Split, number_ids
from jaxmed.errors import InputError


def make_split(name: str, labels: list, *, size: int = 4) -> Split:
    rng = np.random.default_rng(len(labels))
    images = rng.integers(0, 256, (len(labels), size, size, 3), np.uint8)
    ids = number_ids(name, len(labels))
    return Split(images=images, labels=np.array(labels, np.int32), ids=ids)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        name="toy",
        source="npz:toy.npz",
        task="multiclass",
        class_names=("a", "b", "c"),
        train=make_split("train", [0, 1, 2, 1]),
        val=make_split("val", [0, 1]),
        test=make_split("test", [2, 2, 1]),
        image_size=4,
    )


def test_label_outside_the_classes_is_named_with_its_value_and_id(dataset):
    val = make_split("val", [0, 7])
    with pytest.raises(InputError, match=r"npz:toy\.npz, val.*val/000001 is 7.*0 to 2"):
        replace(dataset, val=val)


def test_negative_label_is_refused(dataset):
    with pytest.raises(InputError, match="train/000002 is -1"):
        replace(dataset, train=make_split("train", [0, 1, -1]))


def test_empty_split_is_refused(dataset):
    with pytest.raises(InputError, match="test: the split is empty"):
        replace(dataset, test=make_split("test", []))


def test_float_images_are_refused(dataset):
    val = replace(dataset.val, images=dataset.val.images.astype(np.float32))
    with pytest.raises(InputError, match=r"val: images .* uint8 .* got float32"):
        replace(dataset, val=val)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 2), (2, 4, 0, 3)])
def test_images_of_another_shape_are_refused(dataset, shape):
    val = replace(dataset.val, images=np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"val: .*shape.*\(2, 4"):
        replace(dataset, val=val)


def test_images_labels_and_ids_must_be_as_many(dataset):
    with pytest.raises(InputError, match="2 images but 1 ids"):
        replace(dataset, val=replace(dataset.val, ids=("val/0",)))
    with pytest.raises(InputError, match=r"shape \(2,\), got \(3,\)"):
        replace(dataset, val=replace(dataset.val, labels=np.zeros(3, np.int32)))
    with pytest.raises(InputError, match="val: 2 ids but 1 groups"):
        replace(dataset, val=replace(dataset.val, groups=("p1",)))
    with pytest.raises(InputError, match="val: 2 ids but 1 texts of 'site'"):
        replace(dataset, val=replace(dataset.val, columns={"site": ("x",)}))
    with pytest.raises(InputError, match=r"val: the columns are site, .* train none"):
        replace(dataset, val=replace(dataset.val, columns={"site": ("x", "y")}))


def test_images_are_taken_with_all_that_is_theirs(dataset):
    columns = {"site": ("x", "y", "", "x"), "sex": ("f", "f", "m", "m")}
    split = replace(dataset.train, groups=("p", "q", "p", "r"), columns=columns)
    part = split.take(np.array([3, 0]))
    assert part.ids == ("train/000003", "train/000000")
    assert part.labels.tolist() == [1, 0]
    assert part.groups == ("r", "p")
    assert part.columns == {"site": ("x", "x"), "sex": ("m", "f")}
    np.testing.assert_array_equal(part.images, split.images[[3, 0]])
    plain = dataset.train.take(np.array([1]))
    assert (plain.groups, plain.columns) == (None, {})


def test_labels_of_another_type_are_refused(dataset):
    labels = dataset.val.labels.astype(np.int64)
    with pytest.raises(InputError, match="int32, got int64"):
        replace(dataset, val=replace(dataset.val, labels=labels))


def test_id_in_two_splits_is_refused(dataset):
    val = replace(dataset.val, ids=("val/000000", "train/000003"))
    with pytest.raises(InputError, match=r"'train/000003' occurs twice.*in val"):
        replace(dataset, val=val)


def test_classes_must_fit_the_task(dataset):
    with pytest.raises(InputError, match="binary task needs exactly 2 classes, got 3"):
        replace(dataset, task="binary")
    with pytest.raises(InputError, match="class name 'b' occurs twice"):
        replace(dataset, class_names=("a", "b", "b"))
    with pytest.raises(InputError, match=r"task must be one of .*'regression'"):
        replace(dataset, task="regression")


def test_multilabel_labels_are_zero_or_one_per_class(dataset):
    splits = {
        name: replace(
            getattr(dataset, name),
            labels=np.eye(3, dtype=np.int32)[getattr(dataset, name).labels],
        )
        for name in ("train", "val", "test")
    }
    assert replace(dataset, task="multilabel", **splits).train.labels.shape == (4, 3)
    splits["test"].labels[1, 2] = 2
    with pytest.raises(InputError, match=r"test/000001 is 2, not 0 or 1, .* 'c'"):
        replace(dataset, task="multilabel", **splits)
    splits["test"].labels[1, 2] = MISSING
    assert replace(dataset, task="multilabel", **splits).test.labels[1, 2] == -1
    splits["test"].labels[:] = MISSING
    with pytest.raises(InputError, match="test: no label is known, all are -1"):
        replace(dataset, task="multilabel", **splits)


def test_fingerprint_sees_what_a_result_depends_on_and_nothing_else(dataset):
    fingerprint = dataset.fingerprint
    assert len(fingerprint) == 64
    assert replace(dataset, name="other", source="x", image_size=8).fingerprint == (
        fingerprint
    )
    images = dataset.test.images.copy()
    images[2, 3, 3, 2] ^= 1
    changes = [
        {"test": replace(dataset.test, images=images)},
        {"test": make_split("test", [2, 2, 0])},
        {"test": replace(dataset.test, ids=("x", "y", "z"))},
        {"class_names": ("a", "b", "d")},
        {"val": dataset.test, "test": dataset.val},
    ]
    found = {replace(dataset, **change).fingerprint for change in changes}
    assert len(found | {fingerprint}) == len(changes) + 1
