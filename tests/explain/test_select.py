"""Which images are shown."""

import numpy as np
import pytest

from jaxmed.explain.select import select_images


def make(labels, predicted, confidence, classes=3):
    n = len(labels)
    confidence = np.asarray(confidence, float)
    probs = np.repeat((1 - confidence[:, None]) / (classes - 1), classes, axis=1)
    probs[np.arange(n), predicted] = confidence
    return np.eye(classes, dtype=bool)[labels], probs


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    predicted = np.where(random.random(300) < 0.8, labels, random.integers(0, 3, 300))
    return make(labels, predicted, random.uniform(0.5, 1, 300))


def test_half_and_half_over_all_classes(many):
    truth, probs = many
    right, wrong = select_images(truth, probs, 12)
    predicted = probs.argmax(axis=1)
    assert truth[right, predicted[right]].all()
    assert not truth[wrong, predicted[wrong]].any()
    for chosen in (right, wrong):
        assert len(set(chosen.tolist())) == 6
        assert np.bincount(predicted[chosen]).tolist() == [2, 2, 2]


def test_the_most_confident_mistakes_come_first():
    labels, predicted = [0] * 6, [1, 1, 1, 2, 2, 0]
    truth, probs = make(labels, predicted, [0.6, 0.9, 0.8, 0.7, 0.95, 0.99])
    right, wrong = select_images(truth, probs, 6)
    # The worst of each predicted class first (4 of class 2, 1 of class 1), and so on.
    assert wrong.tolist() == [4, 1, 2, 3, 0]
    assert right.tolist() == [5]


def test_the_seed_decides_the_right_ones_only(many):
    first, again, other = (select_images(*many, 12, seed=s) for s in (0, 0, 1))
    assert (first[0] == again[0]).all()
    assert (first[0] != other[0]).any()
    assert (first[1] == other[1]).all()


def test_too_few_of_a_kind_are_made_up_for():
    labels = [0, 1, 2, 0, 1, 2, 0]
    truth, probs = make(labels, [0, 1, 2, 0, 1, 2, 1], [0.9] * 7)
    right, wrong = select_images(truth, probs, 6)
    assert (len(right), wrong.tolist()) == (5, [6])
    right, wrong = select_images(~truth, probs, 6)
    assert (len(right), len(wrong)) == (1, 5)
    right, wrong = select_images(truth, probs, 100)
    assert sorted([*right, *wrong]) == list(range(7))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_count(many, count):
    right, wrong = select_images(*many, count)
    assert len(right) + len(wrong) == count
    assert len(wrong) == count // 2


def test_several_labels_an_image():
    truth = np.array([[True, True], [False, False], [True, False]])
    probs = np.array([[0.2, 0.9], [0.1, 0.3], [0.8, 0.7]])
    right, wrong = select_images(truth, probs, 3)
    assert sorted(right.tolist()) == [0, 2]
    assert wrong.tolist() == [1]
