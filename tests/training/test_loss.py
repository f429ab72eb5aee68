"""The losses are torch's."""

import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError
from jaxmed.models.outputs import probabilities
from jaxmed.training.loss import Loss, image_hits, mean_loss

LOGITS = (np.random.default_rng(0).normal(size=(12, 5)) * 20).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 5, 12).astype(np.int32)
MARKS = np.random.default_rng(2).integers(0, 2, (12, 5)).astype(np.int32)


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_losses_are_torchs(task):
    logits = torch.from_numpy(LOGITS)
    if task == "multilabel":
        labels, marks = MARKS, torch.from_numpy(MARKS).float()
        expected = functional.binary_cross_entropy_with_logits(
            logits, marks, reduction="none"
        ).mean(1)
    else:
        labels = LABELS
        target = torch.from_numpy(LABELS).long()
        expected = functional.cross_entropy(logits, target, reduction="none")
    losses, _ = Loss()(LOGITS, labels, task)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
    assert mean_loss(LOGITS, labels, task) == pytest.approx(
        float(expected.double().mean()), rel=1e-6
    )


SINGLE = LOGITS[:, :1]
BINARY = LABELS % 2


def test_a_single_logit_has_torchs_loss():
    target = torch.from_numpy(BINARY).float()
    logits = torch.from_numpy(SINGLE[:, 0].copy())
    expected = functional.binary_cross_entropy_with_logits(
        logits, target, reduction="none"
    )
    losses, _ = Loss()(SINGLE, BINARY, "binary")
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
    loss = torch.nn.BCEWithLogitsLoss()(logits.double(), target.double())
    assert mean_loss(SINGLE, BINARY, "binary") == pytest.approx(float(loss), rel=1e-12)


def test_a_single_logit_has_torchs_gradient():
    logits = torch.from_numpy(SINGLE[:, 0].copy()).requires_grad_()
    target = torch.from_numpy(BINARY).float()
    torch.nn.BCEWithLogitsLoss()(logits, target).backward()
    ours = jax.grad(lambda z: Loss()(z, BINARY, "binary")[0].mean())(SINGLE)
    assert logits.grad is not None
    np.testing.assert_allclose(ours[:, 0], logits.grad, rtol=1e-5, atol=1e-7)


def test_a_single_logit_is_two_of_which_the_first_is_zero():
    two = np.concatenate([np.zeros_like(SINGLE), SINGLE], axis=1)
    probs = probabilities(SINGLE, "binary")
    assert probs.shape == (12, 2)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(
        probs[:, 1], torch.from_numpy(SINGLE).sigmoid()[:, 0], rtol=1e-5
    )
    np.testing.assert_allclose(probs, probabilities(two, "binary"), rtol=1e-6)
    np.testing.assert_allclose(
        Loss()(SINGLE, BINARY, "binary")[0],
        Loss()(two, BINARY, "binary")[0],
        rtol=1e-5,
        atol=1e-6,
    )
    hits, counts = image_hits(SINGLE, BINARY, "binary")
    np.testing.assert_array_equal(hits, image_hits(two, BINARY, "binary")[0])
    np.testing.assert_array_equal(counts, np.ones(12, np.float32))
    np.testing.assert_array_equal(hits, probs.argmax(1) == BINARY)
    assert hits.dtype == np.float32
    assert 0 < hits.mean() < 1


def test_probabilities_are_torchs():
    logits = torch.from_numpy(LOGITS)
    np.testing.assert_allclose(
        probabilities(LOGITS, "multiclass"), logits.softmax(1), rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(
        probabilities(LOGITS, "multilabel"), logits.sigmoid(), rtol=1e-5, atol=1e-9
    )
    assert probabilities(LOGITS, "multiclass").dtype == np.float32


def test_hits():
    hits, counts = image_hits(LOGITS, LABELS, "multiclass")
    np.testing.assert_array_equal(hits, LOGITS.argmax(1) == LABELS)
    np.testing.assert_array_equal(counts, 1)
    hits, counts = image_hits(LOGITS, MARKS, "multilabel")
    np.testing.assert_allclose(hits, ((LOGITS >= 0) == MARKS).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(counts, 1)


# Moderate logits, on which torch's single precision is good to 1e-6.
MODEST = (np.random.default_rng(3).normal(size=(12, 5)) * 3).astype(np.float32)
CLASS_WEIGHTS = (0.5, 2.0, 1.0, 0.25, 4.0)


def batch_loss(loss, logits, labels, task, mask=1.0):
    """The loss of a batch as the training step makes it."""
    losses, weights = loss(logits, labels, task)
    return (losses * mask).sum() / (weights * mask).sum()


def agree(loss, labels, task, oracle, targets, logits=MODEST):
    """Compares value and gradient with torch's, and the mean on the host."""
    wide = torch.from_numpy(logits).requires_grad_()
    expected = oracle(wide, torch.from_numpy(targets))
    expected.backward()
    assert wide.grad is not None
    value, slope = jax.value_and_grad(
        jax.jit(lambda z: batch_loss(loss, z, labels, task))
    )(logits)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-6)
    np.testing.assert_allclose(slope, wide.grad, rtol=1e-5, atol=1e-7)
    exact = oracle(torch.from_numpy(logits).double(), torch.from_numpy(targets))
    assert mean_loss(logits, labels, task, loss) == pytest.approx(
        exact.item(), rel=1e-7
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), CLASS_WEIGHTS])
def test_class_weights_and_smoothing_are_torchs(weights, smoothing):
    def oracle(logits, target):
        weight = torch.tensor(weights).to(logits) if weights else None
        return functional.cross_entropy(
            logits, target, weight, label_smoothing=smoothing
        )

    loss = Loss(class_weights=weights, label_smoothing=smoothing)
    agree(loss, LABELS, "multiclass", oracle, LABELS.astype(np.int64))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("task", "columns"), [("multilabel", 5), ("binary", 1)])
def test_positive_weights_and_smoothing_of_sigmoids_are_torchs(
    task, columns, smoothing
):
    weights = CLASS_WEIGHTS[:columns]
    labels = BINARY if task == "binary" else MARKS

    def oracle(logits, marks):
        targets = marks * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits, targets.to(logits), pos_weight=torch.tensor(weights).to(logits)
        )

    loss = Loss(positive_weights=weights, label_smoothing=smoothing)
    marks = labels.reshape(12, columns)
    agree(loss, labels, task, oracle, marks, MODEST[:, :columns].copy())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [(), CLASS_WEIGHTS])
def test_the_focal_loss_of_a_softmax_is_the_papers(weights, gamma):
    def oracle(logits, target):
        p_t = logits.softmax(1)[torch.arange(12), target]
        alpha_t = torch.tensor(weights or (1.0,) * 5).to(logits)[target]
        losses = -alpha_t * (1 - p_t) ** gamma * p_t.log()
        return losses.sum() / alpha_t.sum()

    loss = Loss(name="focal", focal_gamma=gamma, class_weights=weights)
    agree(loss, LABELS, "multiclass", oracle, LABELS.astype(np.int64))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("task", "columns"), [("multilabel", 5), ("binary", 1)])
def test_the_focal_loss_of_sigmoids_is_torchvisions(task, columns, gamma):
    labels = BINARY if task == "binary" else MARKS

    def oracle(logits, marks):
        return sigmoid_focal_loss(
            logits, marks.to(logits), alpha=-1, gamma=gamma, reduction="mean"
        )

    loss = Loss(name="focal", focal_gamma=gamma)
    marks = labels.reshape(12, columns)
    agree(loss, labels, task, oracle, marks, MODEST[:, :columns].copy())


def test_the_weights_of_focal_positives_are_torchvisions_alpha():
    loss = Loss(name="focal", positive_weights=(3.0,) * 5)
    logits, marks = torch.from_numpy(MODEST), torch.from_numpy(MARKS).float()
    # Alpha 3/4 for positives and 1/4 for negatives is 3 and 1, divided by 4.
    expected = 4 * sigmoid_focal_loss(logits, marks, alpha=0.75, gamma=2).mean(1)
    losses, weights = loss(MODEST, MARKS, "multilabel")
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weights, 1)


# Of the last image nothing is known.
KNOWN = np.random.default_rng(5).random((12, 5)) < 0.6
KNOWN[11] = False
PARTLY = np.where(KNOWN, MARKS, MISSING).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), CLASS_WEIGHTS])
@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_labels_that_are_not_known_are_left_out(name, weights, smoothing):
    if name == "focal" and (weights or smoothing):
        pytest.skip("torchvision's focal loss has neither")

    def oracle(logits, marks):
        if name == "focal":
            losses = sigmoid_focal_loss(logits, marks.to(logits), alpha=-1, gamma=2)
        else:
            pos_weight = torch.tensor(weights or (1.0,) * 5).to(logits)
            losses = torch.nn.BCEWithLogitsLoss(
                reduction="none", pos_weight=pos_weight
            )(logits, (marks * (1 - smoothing) + smoothing / 2).to(logits))
        return losses[torch.from_numpy(KNOWN)].mean()

    loss = Loss(name=name, positive_weights=weights, label_smoothing=smoothing)
    agree(loss, PARTLY, "multilabel", oracle, MARKS)


def test_an_image_counts_by_how_many_of_its_labels_are_known():
    for loss in (Loss(), Loss(name="focal")):
        losses, weights = loss(MODEST, PARTLY, "multilabel")
        np.testing.assert_allclose(weights, KNOWN.mean(1), rtol=1e-6)
        assert (losses[11], weights[11]) == (0, 0)
    hits, counts = image_hits(MODEST, PARTLY, "multilabel")
    np.testing.assert_allclose(counts, KNOWN.mean(1), rtol=1e-6)
    right = ((MODEST >= 0) == MARKS)[KNOWN].mean()
    assert float(hits.sum() / counts.sum()) == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("columns", [1, 14, 41, 61])
def test_an_image_of_which_all_is_known_counts_exactly_one(columns):
    """In a compiled step too, where a division by 41 is not exact."""
    marks = np.ones((3, columns), np.int32)
    logits = np.ones((3, columns), np.float32)
    _, weights = jax.jit(lambda z, y: Loss()(z, y, "multilabel"))(logits, marks)
    _, counts = jax.jit(lambda z, y: image_hits(z, y, "multilabel"))(logits, marks)
    np.testing.assert_array_equal(weights, 1)
    np.testing.assert_array_equal(counts, 1)


def test_padding_does_not_count():
    mask = np.array([1] * 7 + [0] * 5, np.float32)
    loss = Loss(class_weights=CLASS_WEIGHTS, label_smoothing=0.1)
    masked = batch_loss(loss, MODEST, LABELS, "multiclass", mask)
    alone = batch_loss(loss, MODEST[:7], LABELS[:7], "multiclass")
    np.testing.assert_allclose(masked, alone, rtol=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("task", "columns"), [("multiclass", 5), ("multilabel", 5), ("binary", 1)]
)
def test_extreme_logits_have_finite_losses_and_gradients(
    task, columns, smoothing, gamma, name
):
    loss = Loss(name=name, focal_gamma=gamma, label_smoothing=smoothing)
    signs = np.random.default_rng(4).choice([-100, 0, 100], (12, columns))
    labels = {"multiclass": LABELS, "multilabel": MARKS, "binary": BINARY}[task]
    value, slope = jax.value_and_grad(batch_loss, argnums=1)(
        loss, signs.astype(np.float32), labels, task
    )
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert value == pytest.approx(mean_loss(signs, labels, task, loss), rel=1e-4)


@pytest.mark.parametrize(
    ("task", "columns"), [("multiclass", 5), ("multilabel", 5), ("binary", 1)]
)
def test_the_default_is_optaxs_to_the_bit(task, columns):
    labels = {"multiclass": LABELS, "multilabel": MARKS, "binary": BINARY}[task]

    def plain(logits):
        if task == "multiclass":
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        marks = labels.reshape(12, columns)
        return optax.sigmoid_binary_cross_entropy(logits, marks).mean(axis=-1)

    logits = LOGITS[:, :columns]
    np.testing.assert_array_equal(Loss()(logits, labels, task)[0], plain(logits))


def test_a_loss_is_a_static_argument():
    same = Loss(name="focal", class_weights=(1.0, 2.0))
    assert hash(same) == hash(Loss(name="focal", class_weights=(1.0, 2.0)))
    assert same != Loss(name="focal", class_weights=(1.0, 3.0))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "focall"}, "Did you mean 'focal'?"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"focal_gamma": float("nan")}, "focal_gamma must be at least 0, got nan"),
        ({"class_weights": (1.0, 0.0)}, "class_weights must be above 0, got 0.0"),
        ({"class_weights": (1.0,)}, "each of 5 logits, got 1"),
        ({"positive_weights": (1.0,) * 5}, "takes class_weights, not positive_weights"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(settings, expected):
    with pytest.raises(InputError, match=expected):
        Loss(**settings)(LOGITS, LABELS, "multiclass")
