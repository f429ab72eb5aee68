"""Weights from labels are scikit-learn's, and balance what they weigh."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from jaxmed.errors import InputError
from jaxmed.training.class_weights import balanced_weights, make_loss, positive_weights
from jaxmed.training.loss import Loss

NAMES = ("ant", "bee", "cat")
LABELS = np.array([0] * 7 + [1] * 2 + [2] * 4, np.int32)
MARKS = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 1]], np.int32)


def test_balanced_weights_are_scikit_learns():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert balanced_weights(LABELS, NAMES) == tuple(expected)


def test_positive_weights_are_negatives_over_positives():
    assert positive_weights(MARKS, NAMES) == (4 / 1, 2 / 3, 1 / 4)
    assert positive_weights(MARKS[:, 0], NAMES[:1]) == (4.0,)


def test_labels_that_are_not_known_weigh_nothing():
    partly = np.concatenate([MARKS, [[-1, -1, -1], [1, -1, 0]]])
    expected = (4 / 2, 2 / 3, 2 / 4)
    assert positive_weights(partly, NAMES) == expected
    with pytest.raises(InputError, match="'bee' has no negative images"):
        positive_weights(np.array([[1, 1, 0], [0, -1, 1]]), NAMES)


def test_weighted_positives_count_as_much_as_negatives():
    loss = make_loss(
        class_weights="balanced", labels=MARKS, task="multilabel", class_names=NAMES
    )
    # At logits of 0 every term is log 2, so the sums tell how much each side counts.
    terms = torch.nn.BCEWithLogitsLoss(
        pos_weight=torch.tensor(loss.positive_weights), reduction="none"
    )(torch.zeros(5, 3), torch.from_numpy(MARKS).float()).numpy()
    positive = (terms * MARKS).sum(0)
    np.testing.assert_allclose(positive, (terms * (1 - MARKS)).sum(0), rtol=1e-6)
    losses, _ = loss(np.zeros((5, 3), np.float32), MARKS, "multilabel")
    np.testing.assert_allclose(losses, terms.mean(axis=1), rtol=1e-6)


def test_the_task_decides_which_weights_a_loss_has():
    def made(labels, task, names, **others):
        loss = make_loss(
            "focal",
            focal_gamma=1.0,
            label_smoothing=0.1,
            class_weights="balanced",
            labels=labels,
            task=task,
            class_names=names,
            **others,
        )
        assert (loss.name, loss.focal_gamma, loss.label_smoothing) == ("focal", 1, 0.1)
        return loss.class_weights, loss.positive_weights

    binary = np.array([0, 0, 0, 1], np.int32)
    assert made(binary, "binary", NAMES[:2]) == ((4 / 6, 2.0), ())
    assert made(binary, "binary", NAMES[:2], single_logit=True) == ((), (3.0,))
    assert made(LABELS, "ordinal", NAMES) == (balanced_weights(LABELS, NAMES), ())
    assert made(MARKS, "multilabel", NAMES) == ((), positive_weights(MARKS, NAMES))


def test_without_weights_the_default_is_made():
    assert make_loss(labels=LABELS, task="multiclass", class_names=NAMES) == Loss()


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(InputError, match="Class 'bee' has no images"):
        balanced_weights(LABELS[LABELS != 1], NAMES)
    with pytest.raises(InputError, match="'cat' has no images"):
        balanced_weights(LABELS[LABELS != 2], NAMES)
    with pytest.raises(InputError, match="'ant' has no positive images"):
        positive_weights(MARKS[1:], NAMES)
    with pytest.raises(InputError, match="'ant' has no negative images"):
        positive_weights(MARKS[:1], NAMES)
    with pytest.raises(InputError, match="Did you mean 'balanced'"):
        make_loss(
            class_weights="balance", labels=LABELS, task="multiclass", class_names=NAMES
        )
