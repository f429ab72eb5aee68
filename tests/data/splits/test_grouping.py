"""Groups from the names of images."""

from dataclasses import replace

import numpy as np

from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.splits.grouping import find_groups, find_overlap, torn_groups
from jaxmed.data.splits.subset import draw_subset

PATIENT = r"person(\d+)_|IM-(\d+)-"


def test_groups_of_x_rays_by_their_names():
    ids = ("a/person1_virus_6.jpeg", "a/person12_x.jpeg", "b/NORMAL2-IM-1-0001.jpeg")
    assert find_groups(ids, PATIENT) == ("1:1", "1:12", "2:1")
    assert find_groups((*ids, "b/new.png"), r"person(\d+)_")[2:] == (
        ids[2],
        "b/new.png",
    )
    assert find_groups(("p1-l", "p1-r"), r"(p\d)-(l|r)") == ("1:p1/2:l", "1:p1/2:r")


def test_torn_groups_are_those_in_two_splits():
    groups = {"train": ("c", "a", "a"), "val": ("b",), "test": ("a", "c", "d")}
    assert torn_groups(groups) == ["a", "c"]
    assert torn_groups({}) == []


def build(**ids: tuple[str, ...]) -> Dataset:
    splits = {
        name: Split(
            images=np.zeros((len(names), 4, 4, 1), np.uint8),
            labels=np.arange(len(names), dtype=np.int32) % 2,
            ids=names,
        )
        for name, names in ids.items()
    }
    return Dataset(
        name="x", source="x", task="binary", class_names=("a", "b"), image_size=4,
        **splits,
    )  # fmt: skip


def test_patients_on_both_sides_are_found_with_their_images():
    data = build(
        train=("train/p1_a", "train/p2_a", "train/p1_b", "train/mean"),
        val=("val/p3_a", "val/p1_c"),
        test=("test/p3_b", "test/p4_a"),
    )
    found = find_overlap(data, r"/p(\d+)_")
    assert found is not None
    assert (found.count, found.alone) == (5, 1)
    assert found.across == {
        "1": {"train": ("train/p1_a", "train/p1_b"), "val": ("val/p1_c",)},
        "3": {"val": ("val/p3_a",), "test": ("test/p3_b",)},
    }


def test_groups_that_the_data_set_has_are_used_and_a_pattern_wins():
    data = build(train=("a1", "a2"), val=("b3", "b4"), test=("c1", "c5"))
    assert find_overlap(data) is None
    given = {"train": ("x", "y"), "val": ("x", "z"), "test": ("c1", "w")}
    splits = {k: replace(getattr(data, k), groups=v) for k, v in given.items()}
    data = replace(data, **splits)
    found = find_overlap(data)
    assert found is not None
    assert list(found.across) == ["x"]
    assert (found.count, found.alone, found.pattern) == (5, 1, "")
    found = find_overlap(data, r"(\d)")
    assert found is not None
    assert list(found.across) == ["1"]


def test_a_subset_keeps_its_groups():
    data = build(train=("a1", "a2", "a3", "a4"), val=("b3", "b4"), test=("c1", "c5"))
    train = replace(data.train, groups=("1", "2", "3", "4"))
    part = draw_subset(replace(data, train=train), 2).train
    assert part.groups == tuple(name[1] for name in part.ids)
