"""Predictions of several runs in one order, or a sentence on why they have none."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.alignment import align, apply_thresholds
from jaxmed.evaluation.predictions import image_fingerprint


def reorder_classes(predictions, order):
    """The same predictions as a program writes them that orders classes so."""
    labels = predictions.labels
    if predictions.task == "multilabel":
        labels = labels[:, order]
    else:
        labels = np.argsort(order)[labels]
    names = tuple(predictions.class_names[i] for i in order)
    probs = predictions.probs[:, order]
    return replace(predictions, labels=labels, probs=probs, class_names=names)


@pytest.mark.parametrize(
    ("task", "order"),
    [("binary", [1, 0]), ("multiclass", [2, 0, 3, 1]), ("multilabel", [1, 2, 3, 0])],
)
def test_images_and_classes_in_another_order_are_brought_into_the_first_ones(
    draw, task, order
):
    first = draw(task, classes=len(order))
    rows = np.random.default_rng(0).permutation(200)
    other = reorder_classes(first, order).take(rows)
    thresholds = dict.fromkeys(first.class_names[-1:], 0.4)
    ours, theirs = align([apply_thresholds(first, thresholds), apply_thresholds(other)])
    assert theirs.predictions.class_names == first.class_names
    assert theirs.predictions.ids == first.ids
    assert (theirs.predictions.probs == first.probs).all()
    assert (theirs.predictions.labels == first.labels).all()
    assert image_fingerprint(other) == image_fingerprint(first)
    assert (ours.predictions.probs == first.probs).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_decisions_move_with_images_and_classes(draw, task):
    first = draw(task, decimals=None)
    rows = np.random.default_rng(0).permutation(200)
    other = reorder_classes(first, [2, 0, 3, 1]).take(rows)
    thresholds = {"class 1": 0.2, "class 3": 0.8}
    ours, theirs = align(
        [apply_thresholds(first, thresholds), apply_thresholds(other, thresholds)]
    )
    assert (ours.decisions == theirs.decisions).all()


def test_the_threshold_of_a_run_is_that_of_its_own_positive_class(draw):
    first = draw("binary", classes=2)
    other = reorder_classes(first, [1, 0])
    _, theirs = align(
        [apply_thresholds(first), apply_thresholds(other, {"class 0": 0.7})]
    )
    # It calls an image class 0 from 0.7 on, and class 1 below.
    assert (theirs.decisions == (first.probs[:, 0] < 0.7)).all()


def test_labels_without_a_threshold_are_decided_at_a_half(draw):
    predictions = draw("multilabel")
    decided = apply_thresholds(predictions, {"class 1": 0.2, "class 2": None}).decisions
    assert (decided[:, 1] == (predictions.probs[:, 1] >= 0.2)).all()
    rest = [0, 2, 3]
    assert (decided[:, rest] == (predictions.probs[:, rest] >= 0.5)).all()


def test_groups_that_one_run_knows_are_those_of_all(draw):
    first = draw("binary", classes=2)
    groups = tuple(f"patient {i // 2}" for i in range(200))
    rows = np.arange(200)[::-1]
    other = replace(first, groups=groups).take(rows)
    assert [
        run.predictions.groups
        for run in align([apply_thresholds(first), apply_thresholds(other)])
    ] == [
        groups,
        groups,
    ]
    moved = replace(first, groups=(*groups[1:], "nobody"))
    with pytest.raises(InputError, match="group of the image 'test/000001' is"):
        align(
            [apply_thresholds(replace(first, groups=groups)), apply_thresholds(moved)]
        )


def test_what_differs_is_said_and_whose_it_is(draw):
    first = draw("multiclass")
    ours = apply_thresholds(first, name="runs/a")

    def refused(other):
        with pytest.raises(InputError) as caught:
            align([ours, apply_thresholds(other, name="runs/b")])
        assert str(caught.value).startswith("runs/a and runs/b cannot be compared: ")
        return str(caught.value)

    names = ("class 0", "class 1", "class 2", "other")
    sentence = refused(replace(first, class_names=names))
    assert "only runs/a has 'class 3'; only runs/b has 'other'" in sentence
    sentence = refused(first.take(np.arange(199)))
    assert "1 ids are in one only" in sentence
    assert "'test/000199', which only runs/a has (200 images and 199)" in sentence
    labels = first.labels.copy()
    labels[[3, 5]] = (labels[[3, 5]] + 1) % 4
    sentence = refused(replace(first, labels=labels))
    assert "image 'test/000003' differ, and of 2 of 200" in sentence
    assert "differ in task, multiclass and ordinal" in refused(
        replace(first, task="ordinal")
    )


def test_fingerprint_tells_ids_and_labels_apart(draw):
    first = draw("multiclass")
    labels = first.labels.copy()
    labels[0] = (labels[0] + 1) % 4
    others = [
        replace(first, labels=labels),
        replace(first, ids=("x", *first.ids[1:])),
        first.take(np.arange(199)),
    ]
    found = {image_fingerprint(one) for one in (first, *others)}
    assert len(found) == 4
    halved = replace(first, probs=first.probs / 2 + 0.125)
    assert image_fingerprint(halved) == image_fingerprint(first)
