"""Groups from the names of images."""

from jaxmed.data.splits.grouping import find_groups, torn_groups

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
