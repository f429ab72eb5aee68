"""Training on images of which not every label is known is torch's, masked."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from fixtures.marks import slow

from jaxmed.data.batching import shuffled, windows
from jaxmed.data.dataset import MISSING
from jaxmed.data.transforms.mixup import NO_MIXING, Mixing
from jaxmed.inference.forward import predict_split
from jaxmed.models.parameters import load, split
from jaxmed.runtime.sharding import data_mesh, replicate
from jaxmed.strategies import Group, Optimizer, Phase, Strategy
from jaxmed.training.fit import fit
from jaxmed.training.loss import Loss
from jaxmed.training.state import Images, StepPlan, begin_phase
from jaxmed.training.step import compiled_train_step
from jaxmed_convert import to_torch

BATCH, COUNT = 8, 29
WEIGHTS = (0.3, 2.0, 1.1)
KEY = jax.random.key(3)
MESH = data_mesh(jax.devices()[:1])
MIX = jax.jit(Mixing.mix, static_argnums=0)


def prepare(images):
    return images.astype(np.float32) / 64 - 2


@pytest.fixture
def data():
    """The second batch of 8 has no known label; the last one has padding."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 12, 12, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, (COUNT, 3))
    labels[rng.random((COUNT, 3)) < 0.4] = MISSING
    labels[[3, *range(8, 16)]] = MISSING
    return Images(images, labels.astype(np.int32))


@pytest.fixture
def wide():
    """Double precision, where both programs must be the same function."""
    with jax.enable_x64(True):
        yield


def train(model, data, steps, **settings):
    """Returns the totals of steps of SGD with momentum and decay; changes the model."""
    parts = split(model)
    load(model, {p: np.float64(a) for p, a in (parts.params | parts.stats).items()})
    optimizer = Optimizer(
        name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-3
    )
    group = Group(name="all", patterns=("backbone", "head"), optimizer=optimizer)
    plan = StepPlan(
        phase=Phase(name="all", epochs=1, groups=(group,)),
        preprocessing=prepare,
        task="multilabel",
        loss=Loss(positive_weights=WEIGHTS),
        **settings,
    )
    definition, state, frozen = begin_phase(model, plan)
    state, frozen = replicate(state, MESH), replicate(frozen, MESH)
    step = compiled_train_step(definition, plan, MESH)
    for indices, mask in steps:
        state = step(
            state,
            frozen=frozen,
            images=replicate(data, MESH),
            indices=indices,
            mask=mask,
            key=KEY,
        )
    load(model, jax.device_get(state.params | state.stats))
    return jax.device_get(state.totals)


def masked_sums(logits, labels):
    """Returns the sum of torch's losses of known labels, and how many there are."""
    known = torch.from_numpy(labels != MISSING)
    losses = torch.nn.BCEWithLogitsLoss(
        reduction="none", pos_weight=torch.tensor(WEIGHTS, dtype=torch.float64)
    )(logits, torch.from_numpy(labels == 1).double())
    return losses[known].sum(), int(known.sum())


def share_of(mixing, number, rows):
    (key,) = jax.random.split(jax.random.fold_in(KEY, number), 1)
    _, mixing_key = jax.random.split(key)
    nothing = np.zeros((rows, 12, 12, 3), np.float32)
    return float(MIX(mixing, nothing, np.ones(rows, np.float32), mixing_key)[2])


def compare(model, twin):
    ours = to_torch(model)
    for name, tensor in twin.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mixing", [slow(NO_MIXING, id="plain"), Mixing(mixup=0.8)])
def test_steps_are_torchs_over_the_known_labels(wide, new_tiny, twin_of, data, mixing):
    """Of a step without any, momentum and decay alone are left, as of zero gradients.

    Where an image is mixed with one whose label is not known, its own part is left.
    """
    model = new_tiny()
    twin = twin_of(model).train()
    optimizer = torch.optim.SGD(
        twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3
    )
    steps = list(windows(np.arange(COUNT, dtype=np.int32), BATCH))
    summed, counted = 0.0, 0.0
    for number, (indices, mask) in enumerate(steps):
        rows = indices[mask == 1]
        partner = np.roll(rows, -1)
        share = share_of(mixing, number, len(rows)) if mixing else 1.0
        images = prepare(share * data.images[rows] + (1 - share) * data.images[partner])
        # Images are float32 in jaxmed.
        inputs = torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2))
        logits = twin(inputs.double())
        total, count = masked_sums(logits, data.labels[rows])
        if mixing:
            of_partner, more = masked_sums(logits, data.labels[partner])
            total = share * total + (1 - share) * of_partner
            count = share * count + (1 - share) * more
        assert (count == 0) == (number == 1)
        optimizer.zero_grad()
        (total / max(count, 1)).backward()
        optimizer.step()
        summed, counted = summed + total.item(), counted + count
    totals = train(model, data, steps, mixing=mixing)
    compare(model, twin)
    tolerance = 1e-5 if mixing else 1e-9
    assert totals["loss"] / totals["weight"] == pytest.approx(
        summed / counted, rel=tolerance
    )
    assert totals["images"] == pytest.approx(counted / 3, rel=1e-6)
    assert 0 < totals["hits"] < totals["images"]


def test_accumulated_batches_are_averaged_over_all_their_known_labels(
    wide, new_tiny, twin_of, data
):
    model = new_tiny()
    twin = twin_of(model).train()
    optimizer = torch.optim.SGD(
        twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3
    )
    steps = list(windows(np.arange(COUNT, dtype=np.int32), BATCH, accumulate=4))
    ((indices, mask),) = steps
    count = (data.labels != MISSING).sum()
    for rows, marks in zip(indices, mask, strict=True):
        chosen = rows[marks == 1]
        inputs = prepare(data.images[chosen]).transpose(0, 3, 1, 2)
        total, _ = masked_sums(
            twin(torch.from_numpy(inputs).double()), data.labels[chosen]
        )
        (total / count).backward()
    optimizer.step()
    train(model, data, steps, accumulate=4)
    compare(model, twin)


def test_epochs_are_judged_by_what_is_known(new_tiny, quarters):
    def partly(name):
        part = getattr(quarters, name)
        labels = (part.labels[:, None] == [0, 1, 2]).astype(np.int32)
        labels[np.random.default_rng(1).random(labels.shape) < 0.3] = MISSING
        # The first ones of the first epoch, when nothing is known yet.
        labels[shuffled(len(part), seed=0, epoch=1)[:4]] = MISSING
        return replace(part, labels=labels)

    parts = {name: partly(name) for name in ("train", "val", "test")}
    data = replace(quarters, task="multilabel", **parts)
    model, optimizer = new_tiny(), Optimizer(learning_rate=1e-2)
    group = Group(name="all", patterns=("backbone", "head"), optimizer=optimizer)
    phase = Phase(name="all", epochs=2, groups=(group,))
    result = fit(
        model,
        data,
        Strategy(name="all", phases=(phase,)),
        select="val_loss",
        batch_size=1,
    )
    row = result.history[result.best["epoch"] - 1]
    predictions = predict_split(model, data, "val")
    known = predictions.known
    probs, marks = (
        torch.from_numpy(array[known])
        for array in (predictions.probs, predictions.labels.astype(np.float64))
    )
    expected = torch.nn.functional.binary_cross_entropy(probs, marks)
    assert row["val_loss"] == pytest.approx(expected.item(), rel=1e-5)
    right = ((probs >= 0.5) == (marks == 1)).double().mean()
    assert row["val_accuracy"] == pytest.approx(right.item(), rel=1e-6)
    for row in result.history:
        assert np.isfinite(row["train_loss"])
        assert 0 < row["train_accuracy"] < 1
