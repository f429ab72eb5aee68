"""Labeled images of another source: joined splits, and the classes of a model."""

import numpy as np
import pytest

from jaxmed.data.dataset import MISSING, SourceImages, Split
from jaxmed.data.sources.external import as_external, match_classes
from jaxmed.errors import InputError


def source(labels, names, task="multiclass") -> SourceImages:
    labels = np.array(labels, np.int32)
    ids = tuple(f"{i}.png" for i in range(len(labels)))
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    split = Split(images=images, labels=labels, ids=ids)
    return SourceImages(
        name="b", source="folder:b", task=task, class_names=names, splits={"": split}
    )


def matched(found, names, task="multiclass", mapping=None):
    result, notes = match_classes(found, names, task, mapping or {})
    assert result.class_names == names
    assert result.task == task
    return result.splits[""], notes


def test_names_are_matched_if_need_be_without_regard_to_case():
    found = source([0, 1, 2, 2], ("cyst", "Tumor", "well"))
    split, notes = matched(found, ("well", "Cyst", "Tumor"))
    assert split.labels.tolist() == [1, 2, 0, 0]
    assert notes == ("cyst counts as Cyst",)


def test_several_names_are_one_class_and_others_are_left_out():
    found = source([0, 1, 2, 3, 1], ("normal", "bacterial", "viral", "covid"))
    mapping = {"bacterial": "ILL", "viral": "ILL", "normal": "WELL", "covid": ""}
    split, notes = matched(found, ("ILL", "WELL"), "binary", mapping)
    assert split.labels.tolist() == [1, 0, 0, 0]
    assert split.ids == ("0.png", "1.png", "2.png", "4.png")
    assert split.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4]
    assert "images of covid are left out" in notes
    assert "1 images left out by the mapping" in notes


def test_a_class_of_the_model_without_images_is_said():
    _, notes = matched(source([0, 1], ("a", "b")), ("a", "b", "c", "d"))
    assert notes == ("no image of c, d, which cannot be measured",)


def test_labels_of_the_model_are_merged_and_others_ignored():
    labels = [[1, 0, 0, 1], [0, 0, 1, 0], [0, MISSING, 1, 0], [MISSING] * 3 + [1]]
    found = source(labels, ("edema", "left mass", "mass", "hair"), "multilabel")
    mapping = {"left mass": "mass"}
    split, _ = matched(found, ("mass", "edema", "effusion"), "multilabel", mapping)
    expected = [[0, 1, MISSING], [1, 0, MISSING], [1, 0, MISSING]]
    # The last image has no label of the model.
    np.testing.assert_array_equal(split.labels, expected)


@pytest.mark.parametrize(
    ("found", "names", "mapping", "sentence"),
    [
        (source([0, 1], ("a", "z")), ("a", "b"), {}, "the classes z, which the model"),
        (source([0, 1], ("a", "b")), ("a", "b"), {"c": "a"}, "Unknown class of folder"),
        (source([0, 1], ("a", "b")), ("a", "b"), {"a": "x"}, "Unknown class of the mo"),
        (source([0, 0], ("a", "b")), ("a", "b"), {}, "has images of a only"),
        (source([0, 1], ("a", "b")), ("a", "b"), {"a": "b"}, "has images of b only"),
        (
            source([[1, 0], [0, 1]], ("a", "b"), "multilabel"),
            ("a", "b"),
            {},
            "is multilabel, and the model is multiclass",
        ),
    ],
)
def test_classes_that_cannot_be_compared_are_a_sentence(
    found, names, mapping, sentence
):
    with pytest.raises(InputError, match=sentence):
        match_classes(found, names, "multiclass", mapping)


def test_splits_are_joined_in_their_order(quarters):
    joined = as_external(quarters)
    (split,) = joined.splits.values()
    assert split.ids == quarters.train.ids + quarters.val.ids + quarters.test.ids
    assert len(as_external(quarters, splits=["val"]).splits[""]) == 25
    grouped = as_external(quarters, splits=["val"], group_pattern=r"/(\d)")
    assert grouped.splits[""].groups[12] == "1"
    with pytest.raises(InputError, match="Unknown split of test 'dev'"):
        as_external(quarters, splits=["dev"])
