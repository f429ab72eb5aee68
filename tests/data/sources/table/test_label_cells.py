"""Cells of several labels: what separates them, and what is none."""

import pytest

from jaxmed.data.sources.table.label_cells import LIST, ONE, Lists, find_separator
from jaxmed.errors import InputError


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a", "b"], ONE),
        (["a|b", "a", "No Finding"], "|"),
        (["a;b", "b"], ";"),
        (["['a', 'b']", "['a']", "[]"], LIST),
        (['["a", "b"]'], LIST),
        # A comma that belongs to a name.
        (["Pneumonia, viral", "Pneumonia, bacterial", "Normal"], ONE),
        (["No Finding", "Pleural Effusion", "Edema"], ONE),
        (["T2/FLAIR", "T1"], ONE),
    ],
)
def test_a_separator_shows(cells, separator):
    assert find_separator(cells, "", "here") == separator


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        (["a, b", "a", "b"], "sep=%2C for several, or sep=none"),
        (["scab rust", "scab", "rust"], "sep=%20"),
        (["a/b", "a", "b"], "sep=/"),
        (["a & b", "a", "b"], "sep=%26"),
        # A hierarchy perhaps: no label is alone.
        (["skin|nevus", "skin|melanoma"], r"sep=\|"),
    ],
)
def test_what_may_be_a_separator_is_asked_for(cells, word):
    with pytest.raises(InputError, match=f"may be one class or several labels.*{word}"):
        find_separator(cells, "", "here")
    assert find_separator(cells, ONE, "here") == ONE


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["b|a", "a", "No Finding", "a |c"], "|"),
        (["['b', 'a']", "['a']", "[]", "['a', 'c']"], LIST),
        (["['b' 'a']", '["a"]', "['Normal']", "['a' \"c\"]"], LIST),
        (["[b, a]", "[a]", "[none]", "[a,c]"], LIST),
    ],
)
def test_labels_are_read(cells, separator):
    lists = Lists(cells, separator)
    assert lists.class_names == ("a", "b", "c")
    assert [lists.check(cell) for cell in cells] == [""] * 4
    expected = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert lists.labels(cells).tolist() == expected


def test_classes_and_the_word_for_none_can_be_said():
    cells = ["b|a", "Clear", "Normal"]
    lists = Lists(cells, "|", ("b", "a", "Normal"), ("clear",))
    assert lists.labels(cells).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert lists.check("a|d") == "d is not in classes"
    assert lists.check("a|Clear") == "a|Clear says that there is nothing, and something"


def test_spellings_are_one_label():
    cells = ["Edema|mass", "edema", "Edema"]
    lists = Lists(cells, "|")
    assert lists.class_names == ("Edema", "mass")
    assert lists.labels(cells).tolist() == [[1, 1], [1, 0], [1, 0]]
