"""Patients in ids: what a pattern finds, and who is on both sides of a split."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.groups import find_overlap, match_groups
from jaxmed.data.subset import draw_subset
from jaxmed.errors import InputError

XRAY = r"person(\d+)_|IM-(\d+)-"


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


@pytest.mark.parametrize(
    ("name", "pattern", "group"),
    [
        ("train/B/person12_virus_3.jpeg", XRAY, "1:12"),
        ("train/A/NORMAL2-IM-12-0001.jpeg", XRAY, "2:12"),
        ("train/A/other.jpeg person1_", r"^train", "train"),
        ("train/p7/scan2/x.png", r"p(\d+)/scan(\d+)", "7/2"),
        ("train/site_a-9.png", r"([a-z]+)-(\d+)", "a/9"),
    ],
)
def test_groups_are_what_parentheses_match(name, pattern, group):
    assert match_groups([name], pattern) == (group,)


def test_ids_without_the_pattern_have_no_group():
    assert match_groups(["p1_a", "mean"], r"p(\d+)_") == ("1", "")


@pytest.mark.parametrize("pattern", ["person(\\d+", "[", "*"])
def test_what_is_no_regular_expression_is_said(pattern):
    with pytest.raises(InputError, match="is no regular expression"):
        match_groups(["p1"], pattern)


def test_a_pattern_found_nowhere_is_said_with_an_id():
    with pytest.raises(InputError, match=r"'patient\(.*in no id; the first id is 'p1'"):
        match_groups(["p1", "p2"], r"patient(\d+)")


def test_patients_on_both_sides_are_found_with_their_images():
    data = build(
        train=("train/p1_a", "train/p2_a", "train/p1_b", "train/mean"),
        val=("val/p3_a", "val/p1_c"),
        test=("test/p3_b", "test/p4_a"),
    )
    found = find_overlap(data, r"/p(\d+)_")
    assert found is not None
    assert (found.count, found.without) == (4, 1)
    assert found.across == {
        "1": {"train": ("train/p1_a", "train/p1_b"), "val": ("val/p1_c",)},
        "3": {"val": ("val/p3_a",), "test": ("test/p3_b",)},
    }


def test_groups_that_the_data_set_has_are_used_and_a_pattern_wins():
    data = build(train=("a1", "a2"), val=("b3", "b4"), test=("c1", "c5"))
    assert find_overlap(data) is None
    given = {"train": ("x", "y"), "val": ("x", "z"), "test": ("", "w")}
    splits = {k: replace(getattr(data, k), groups=v) for k, v in given.items()}
    data = replace(data, **splits)
    found = find_overlap(data)
    assert found is not None
    assert list(found.across) == ["x"]
    assert (found.count, found.without, found.pattern) == (4, 1, "")
    found = find_overlap(data, r"(\d)")
    assert found is not None
    assert list(found.across) == ["1"]


def test_a_subset_keeps_its_groups():
    data = build(train=("a1", "a2", "a3", "a4"), val=("b3", "b4"), test=("c1", "c5"))
    train = replace(data.train, groups=("1", "2", "3", "4"))
    part = draw_subset(replace(data, train=train), 2).train
    assert part.groups == tuple(name[1] for name in part.ids)
