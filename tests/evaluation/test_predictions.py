"""Predictions: what is accepted, and what is refused with a sentence."""

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions


def build(**changes):
    given = {
        "split": "val",
        "ids": ("a", "b", "c"),
        "labels": np.array([0, 1, 1]),
        "probs": np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], np.float32),
        "class_names": ("ill", "well"),
        "task": "binary",
    }
    return Predictions(**(given | changes))


def test_float32_is_kept_exactly():
    predictions = build()
    assert predictions.probs.dtype == np.float64
    assert predictions.probs[0, 0] == float(np.float32(0.9))
    assert predictions.labels.dtype == np.int64


def test_truth_of_classes_and_of_labels():
    assert build().truth.tolist() == [[True, False], [False, True], [False, True]]
    labels = np.array([[0, 1], [1, 1], [0, 0]])
    multilabel = build(task="multilabel", labels=labels)
    assert multilabel.truth.tolist() == [[False, True], [True, True], [False, False]]


def probs(*rows):
    return np.array(rows, np.float64)


EMPTY = {"ids": (), "labels": np.zeros(0, int), "probs": np.zeros((0, 2))}
REFUSED = {
    "nan": ({"probs": probs([0.9, 0.1], [np.nan, 0.5], [0, 1])}, "NaN.*'ill' of 'b'"),
    "above one": ({"probs": probs([0.9, 0.1], [0, 1], [-1, 2])}, r"\[0, 1\].* -1.0"),
    "infinite": ({"probs": probs([0.9, 0.1], [0, 1], [0, np.inf])}, r"\[0, 1\].*inf"),
    "sum": ({"probs": probs([0.9, 0.1], [0.5, 0.5002], [0, 1])}, "1.0002 for 'b'"),
    "label above": ({"labels": np.array([0, 2, 1])}, "0 to 1, got 2 for 'b'"),
    "label below": ({"labels": np.array([0, 1, -1])}, "0 to 1, got -1 for 'c'"),
    "float labels": ({"labels": np.array([0.0, 1.0, 1.0])}, "integers, got float64"),
    "same id": ({"ids": ("a", "b", "a")}, "id 'a' more than once"),
    "same class": ({"class_names": ("ill", "ill")}, "class name 'ill' more than"),
    "empty": (EMPTY, "val predictions are empty"),
    "too few ids": ({"ids": ("a", "b")}, r"labels .* shape \(2,\).* got \(3,\)"),
    "too few columns": ({"probs": np.ones((3, 1))}, r"\(3, 2\) .* got \(3, 1\)"),
    "split": ({"split": "vall"}, "Did you mean 'val'"),
    "task": ({"task": "multilable"}, "Did you mean 'multilabel'"),
    "three classes": ({"class_names": ("a", "b", "c")}, "binary task has 2 classes"),
    "one class name": ({"task": "multiclass", "class_names": ("a",)}, "than the 1"),
    "multilabel labels": ({"task": "multilabel"}, r"\(3, 2\) .* got \(3,\)"),
    "multilabel two": (
        {"task": "multilabel", "labels": np.array([[0, 1], [2, 0], [0, 0]])},
        r"0 to 1 \(-1 if not known\), got 2 for 'b'",
    ),
    "too few groups": ({"groups": ("p", "q")}, "groups .* of the 3 images, got 2"),
    "too few sites": (
        {"columns": {"site": ("x",)}},
        "column 'site' .*, got 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    changes, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        build(**changes)


def test_missing_labels_are_known_to_be_missing():
    labels = np.array([[0, 1], [-1, 1], [0, -1]])
    predictions = build(task="multilabel", labels=labels)
    assert predictions.known.tolist() == [[True, True], [False, True], [True, False]]
    assert predictions.truth.tolist() == [[False, True], [False, True], [False, False]]
    assert build().known.all()
    assert build().known.shape == (3, 2)


def test_rows_within_the_tolerance_are_accepted():
    assert build(probs=probs([0.9, 0.1], [0.5, 0.50009], [0, 1])).probs[1, 1] > 0.5


def test_independent_labels_need_not_sum_to_one():
    labels = np.array([[0, 1], [1, 1], [0, 0]])
    independent = probs([0.9, 0.9], [0.1, 0.1], [1, 1])
    assert build(task="multilabel", labels=labels, probs=independent).probs[2, 0] == 1
