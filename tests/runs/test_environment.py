"""environment.json: what it says of the data."""

import numpy as np
import pytest

from jaxmed.data.dataset import Dataset, Split
from jaxmed.runs.environment import describe_data

IMAGES = np.zeros((4, 8, 8, 3), np.uint8)


def make(labels, groups, task="multiclass"):
    splits = {
        name: Split(
            images=IMAGES,
            labels=np.array(labels, np.int32),
            ids=tuple(f"{name}{i}" for i in range(4)),
            groups=groups and tuple(groups[name]),
        )
        for name in ("train", "val", "test")
    }
    names = ("a", "b", "c")
    return Dataset(name="x", source="npz:x", task=task, class_names=names,
                   image_size=8, **splits)  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "task", "counts"),
    [
        ([0, 0, 2, 0], "multiclass", {"a": 3, "b": 0, "c": 1}),
        (
            [[1, 0, -1], [1, 1, -1], [0, 0, 1], [0, 1, 1]],
            "multilabel",
            {"a": 2, "b": 2, "c": 2},
        ),
    ],
)
def test_images_of_every_class_are_counted_split_by_split(labels, task, counts):
    found = describe_data(make(labels, None, task))
    assert found["counts"] == dict.fromkeys(("train", "val", "test"), counts)
    assert found["sizes"] == {"train": 4, "val": 4, "test": 4}
    assert "groups" not in found


def test_patients_are_counted_and_those_on_both_sides():
    groups = {"train": "ppqq", "val": ("p", "r", "r", ""), "test": "ssss"}
    found = describe_data(make([0, 1, 2, 0], groups))
    assert found["groups"] == {"train": 2, "val": 2, "test": 1}
    assert found["groups_in_several_splits"] == 1
