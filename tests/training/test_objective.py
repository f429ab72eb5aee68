"""The losses are torch's."""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxmed.training.objective import (
    image_hits,
    image_losses,
    mean_loss,
    probabilities,
)

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
    losses = image_losses(LOGITS, labels, task)
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
    losses = image_losses(SINGLE, BINARY, "binary")
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
    loss = torch.nn.BCEWithLogitsLoss()(logits.double(), target.double())
    assert mean_loss(SINGLE, BINARY, "binary") == pytest.approx(float(loss), rel=1e-12)


def test_a_single_logit_has_torchs_gradient():
    logits = torch.from_numpy(SINGLE[:, 0].copy()).requires_grad_()
    target = torch.from_numpy(BINARY).float()
    torch.nn.BCEWithLogitsLoss()(logits, target).backward()
    ours = jax.grad(lambda z: image_losses(z, BINARY, "binary").mean())(SINGLE)
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
        image_losses(SINGLE, BINARY, "binary"),
        image_losses(two, BINARY, "binary"),
        rtol=1e-5,
        atol=1e-6,
    )
    hits = image_hits(SINGLE, BINARY, "binary")
    np.testing.assert_array_equal(hits, image_hits(two, BINARY, "binary"))
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
    hits = image_hits(LOGITS, LABELS, "multiclass")
    np.testing.assert_array_equal(hits, LOGITS.argmax(1) == LABELS)
    hits = image_hits(LOGITS, MARKS, "multilabel")
    np.testing.assert_allclose(hits, ((LOGITS >= 0) == MARKS).mean(1), rtol=1e-6)
