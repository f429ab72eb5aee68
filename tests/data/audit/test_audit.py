"""The findings of constructed data sets."""

import json

import numpy as np
import pytest

from jaxmed.data.audit.audit import audit
from jaxmed.data.dataset import Dataset, Split, Task


def build(labels: dict, task: Task, names: tuple, channels: int = 1) -> Dataset:
    rng = np.random.default_rng(0)
    splits = {}
    for name, values in labels.items():
        images = rng.integers(0, 256, (len(values), 8, 12, channels)).astype(np.uint8)
        ids = tuple(f"{name}/p{i}_{name}" for i in range(len(values)))
        splits[name] = Split(images=images, labels=np.array(values, np.int32), ids=ids)
    return Dataset(
        name="made", source="npz:made", task=task, class_names=names, image_size=12,
        **splits,
    )  # fmt: skip


@pytest.fixture
def data() -> Dataset:
    labels = {"train": [0, 0, 0, 1, 1, 1, 1, 1, 1], "val": [0, 1, 2], "test": [0, 1]}
    return build(labels, "multiclass", ("a", "b", "c", "d"), channels=3)


def test_counts_imbalance_and_labels_of_one_split(data):
    found = audit(data)
    assert found.counts["train"] == {"a": 3, "b": 6, "c": 0, "d": 0}
    assert found.imbalance == {"train": None, "val": None, "test": None}
    assert found.only_in == {"c": "val"}
    assert found.missing == {
        "train": ("c", "d"), "val": ("d",), "test": ("c", "d")
    }  # fmt: skip
    assert found.leaks == {"exact": 0, "near": 0, "patients": 0}


def test_imbalance_is_largest_over_smallest():
    two = build({"train": [0, 0, 1], "val": [0, 1], "test": [0]}, "binary", ("a", "b"))
    assert audit(two).imbalance == {"train": 2.0, "val": 1.0, "test": None}


def test_labels_of_a_multilabel_task_are_counted_each():
    rows = [[1, 0], [1, 1], [0, 0]]
    labels = {"train": rows, "val": rows[:1], "test": rows[1:]}
    found = audit(build(labels, "multilabel", ("a", "b")))
    assert found.counts == {
        "train": {"a": 2, "b": 1}, "val": {"a": 1, "b": 0}, "test": {"a": 1, "b": 1}
    }  # fmt: skip


def test_labels_that_are_not_known_are_counted_apart():
    rows = [[1, -1], [-1, 1], [-1, 0]]
    labels = {"train": rows, "val": [[1, 0]], "test": rows[1:]}
    data = build(labels, "multilabel", ("a", "b"))
    found = audit(data)
    assert found.counts["train"] == {"a": 1, "b": 1}
    assert found.missing == {"train": (), "val": ("b",), "test": ("a",)}
    assert found.unknown == {"train": {"a": 2, "b": 1}, "val": {}, "test": {"a": 2}}
    np.testing.assert_array_equal(found.means["a"], data.train.images[0])
    assert audit(build({n: [0, 1] for n in labels}, "binary", ("a", "b"))).unknown == (
        {"train": {}, "val": {}, "test": {}}
    )


def test_sizes_and_share_of_gray_images(data):
    data.train.images[:3] = data.train.images[:3, ..., :1]
    found = audit(data).images["train"]
    shape = {"count": 9, "height": 8, "width": 12, "channels": 3}
    assert found == shape | {"gray": pytest.approx(1 / 3)}


def test_leaks_are_counted_by_kind(data):
    data.val.images[0] = data.train.images[0]
    found = audit(data, group_pattern=r"p(\d+)_")
    assert found.leaks == {"exact": 1, "near": 0, "patients": 3}


def test_mean_images_are_those_of_numpy(data):
    means = audit(data).means
    assert list(means) == ["a", "b"]
    expected = data.train.images[3:].astype(float).mean(axis=0)
    assert np.abs(means["b"] - expected).max() <= 0.5


def test_the_table_survives_json(data):
    data.val.images[0] = data.train.images[0]
    data.test.images[1] = 3
    table = audit(data, group_pattern=r"p(\d+)_").table()
    read = json.loads(json.dumps(table, allow_nan=False))
    assert set(read) == {
        "name", "source", "task", "class_names", "fingerprint", "images", "files",
        "counts", "imbalance", "only_in", "missing", "unknown", "duplicates",
        "patients", "leaks", "blank", "skipped", "notes", "window", "few_levels",
    }  # fmt: skip
    (group,) = read["duplicates"]["exact"]
    assert group == {
        "kind": "exact",
        "ids": ["train/p0_train", "val/p0_val"],
        "splits": ["train", "val"],
        "labels": ["a", "a"],
        "distance": 0,
        "similarity": 1.0,
        "across_splits": True,
        "labels_differ": False,
    }
    assert read["blank"]["ids"] == ["test/p1_test"]
    assert read["patients"]["across"]["2"] == {
        "train": ["train/p2_train"],
        "val": ["val/p2_val"],
    }
