"""Which images are shown."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from jaxmed.explain.image_selection import KINDS, select_images


def of_kind(chosen, kind):
    return [row for row, kinds in chosen.items() if kind in kinds]


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(3), 300)
    truth = np.eye(3, dtype=bool)[random.integers(0, 3, 300)]
    return truth, probs, np.ones_like(truth)


@pytest.fixture(scope="module")
def labels():
    random = np.random.default_rng(1)
    probs = random.random((200, 4))
    known = random.random((200, 4)) < 0.7
    return (random.random((200, 4)) < 0.5) & known, probs, known


def test_kinds_are_those_that_their_names_say(many):
    truth, probs, known = many
    chosen = select_images(truth, probs, known, 24, exclusive=True)
    losses = [
        log_loss([t.argmax()], [p], labels=range(3))
        for t, p in zip(truth, probs, strict=True)
    ]
    worst = np.argsort(losses)[::-1][: len(of_kind(chosen, "loss"))]
    assert of_kind(chosen, "loss") == worst.tolist()
    closest = np.argsort(probs.max(axis=1))[: len(of_kind(chosen, "uncertain"))]
    assert of_kind(chosen, "uncertain") == closest.tolist()
    assert min(len(of_kind(chosen, kind)) for kind in KINDS) >= 8


def test_labels_that_are_not_known_decide_nothing(labels):
    truth, probs, known = labels
    chosen = select_images(truth, probs, known, 30, exclusive=False)
    losses, doubts = [], []
    for t, p, k in zip(truth, probs, known, strict=True):
        sure = np.where(t, p, 1 - p)[k]
        losses.append(-np.log(sure).mean() if k.any() else 0)
        doubts.append(np.minimum(p, 1 - p)[k].mean() if k.any() else 0)
    worst = np.argsort(losses)[::-1][: len(of_kind(chosen, "loss"))]
    assert of_kind(chosen, "loss") == worst.tolist()
    closest = np.argsort(doubts)[::-1][: len(of_kind(chosen, "uncertain"))]
    assert of_kind(chosen, "uncertain") == closest.tolist()
    hidden = np.where(known, probs, 1 - probs)
    again = select_images(truth, hidden, known, 30, exclusive=False)
    assert again == chosen


def test_the_seed_decides_the_random_ones_only(many):
    first, again, other = (
        select_images(*many, 24, exclusive=True, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert of_kind(first, "random") != of_kind(other, "random")
    assert of_kind(first, "loss")[:7] == of_kind(other, "loss")[:7]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 299, 1000])
def test_there_are_as_many_as_asked_for(many, count):
    chosen = select_images(*many, count, exclusive=True)
    assert len(chosen) == min(count, 300)
    assert all(kinds and set(kinds) <= set(KINDS) for kinds in chosen.values())


def test_a_probability_of_zero_is_the_worst():
    truth = np.eye(2, dtype=bool)[[0, 0, 1]]
    probs = np.array([[0.0, 1.0], [0.2, 0.8], [0.4, 0.6]])
    chosen = select_images(truth, probs, np.ones_like(truth), 1, exclusive=True)
    assert chosen == {0: ("loss",)}
