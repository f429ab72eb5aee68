"""What happens in one step beyond torch's plain one: accumulation, averages, mixing."""

import jax
import numpy as np
import pytest
import torch
from fixtures.marks import slow

from jaxmed.data.batching import windows
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.models.parameters import load, split
from jaxmed.runtime.sharding import data_mesh, replicate
from jaxmed.strategies import Group, Optimizer, Phase
from jaxmed.training.loss import Loss
from jaxmed.training.state import (
    Images,
    StepPlan,
    all_weights,
    begin_phase,
)
from jaxmed.training.step import compiled_train_step
from jaxmed_convert import to_torch

BATCH, COUNT = 8, 77
WEIGHTS = (0.3, 2.0, 1.1)
KEY = jax.random.key(3)
MESH = data_mesh(jax.devices()[:1])
MIX = jax.jit(Mixing.mix, static_argnums=0)


def prepare(images):
    return images.astype(np.float32) / 64 - 2


def everything(frozen_bn_stats=()):
    """SGD with momentum and decay, so that a step shows the gradient itself."""
    optimizer = Optimizer(
        name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-3
    )
    group = Group(name="all", patterns=("backbone", "head"), optimizer=optimizer)
    return Phase(name="all", epochs=1, groups=(group,), frozen_bn_stats=frozen_bn_stats)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 12, 12, 3), dtype=np.uint8)
    return Images(images, rng.integers(0, 3, COUNT).astype(np.int32))


@pytest.fixture
def wide():
    """Double precision, where both programs must be the same function."""
    with jax.enable_x64(True):
        yield


def widen(model):
    parts = split(model)
    load(model, {p: np.float64(a) for p, a in (parts.params | parts.stats).items()})
    return model


class Training:
    """Steps of a plan over some images, and what they left."""

    def __init__(self, model, data, **settings):
        settings = {"phase": everything()} | settings
        plan = StepPlan(preprocessing=prepare, task="multiclass", **settings)
        definition, state, frozen = begin_phase(model, plan)
        self.model = model
        self.state, self.frozen = replicate(state, MESH), replicate(frozen, MESH)
        self.images = replicate(data, MESH)
        self.step = compiled_train_step(definition, plan, MESH)

    def run(self, steps, key=KEY):
        for indices, mask in steps:
            self.state = self.step(
                self.state,
                frozen=self.frozen,
                images=self.images,
                indices=indices,
                mask=mask,
                key=key,
                scale=np.float32(1),
            )
        return self

    @property
    def raw(self):
        """The trained weights, not their average."""
        return jax.device_get(self.state.params | self.state.stats)

    def in_torchs_names(self):
        load(self.model, self.raw | jax.device_get(self.frozen.params))
        return to_torch(self.model)


def torch_inputs(images, rows):
    chosen = prepare(np.asarray(images.images)[rows]).transpose(0, 3, 1, 2)
    return torch.tensor(chosen).double(), torch.tensor(
        np.asarray(images.labels)[rows]
    ).long()


def torch_optimizer(twin):
    return torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def assert_same(ours, theirs, **tolerance):
    compared = 0
    for name, tensor in theirs.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(
                ours[name],
                tensor,
                msg=lambda text, name=name: f"{name}: {text}",
                **tolerance,
            )
            compared += 1
    assert compared == 12


@pytest.mark.slow
def test_without_batch_statistics_four_batches_are_one(wide, new_tiny, data):
    order, phase = (
        np.arange(64, dtype=np.int32),
        everything(frozen_bn_stats=("backbone",)),
    )
    loss = Loss(class_weights=WEIGHTS)
    several, one = (
        Training(widen(new_tiny()), data, phase=phase, loss=loss, accumulate=k).run(
            windows(order, 32 // k, accumulate=k)
        )
        for k in (4, 1)
    )
    assert several.state.step == one.state.step == 2
    for path, array in one.raw.items():
        np.testing.assert_allclose(several.raw[path], array, rtol=1e-9, err_msg=path)
    for name, total in one.state.totals.items():
        assert several.state.totals[name] == pytest.approx(float(total), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "torchs"),
    [
        slow(Loss(), {}, id="plain"),
        pytest.param(
            Loss(class_weights=WEIGHTS, label_smoothing=0.2),
            {"weight": WEIGHTS, "label_smoothing": 0.2},
            id="weighted",
        ),
    ],
)
def test_accumulated_steps_are_torchs(wide, new_tiny, twin_of, data, loss, torchs):
    """77 images: windows of 4, 4 and 2 batches, the very last batch of 5 images."""
    model = widen(new_tiny())
    twin = twin_of(model).train()
    steps = list(windows(np.arange(COUNT, dtype=np.int32), BATCH, accumulate=4))
    assert [mask.sum(axis=1).tolist() for _, mask in steps] == [
        [8, 8, 8, 8], [8, 8, 8, 8], [8, 5, 0, 0],
    ]  # fmt: skip
    options = dict(torchs)
    if "weight" in options:
        options["weight"] = torch.tensor(options["weight"], dtype=torch.float64)
    of_class = options.get("weight", torch.ones(3).double())
    optimizer, summed, weight = torch_optimizer(twin), 0.0, 0.0
    for indices, mask in steps:
        optimizer.zero_grad()
        total = of_class[data.labels[indices[mask == 1]]].sum()
        for rows, marks in zip(indices, mask, strict=True):
            if marks.any():
                inputs, labels = torch_inputs(data, rows[marks == 1])
                loss_of_batch = torch.nn.functional.cross_entropy(
                    twin(inputs), labels, reduction="sum", **options
                )
                (loss_of_batch / total).backward()
                summed += loss_of_batch.item()
        weight += total.item()
        optimizer.step()
    training = Training(model, data, loss=loss, accumulate=4).run(steps)
    assert_same(training.in_torchs_names(), twin.state_dict(), rtol=1e-8, atol=1e-10)
    totals = training.state.totals
    assert float(totals["loss"] / totals["weight"]) == pytest.approx(summed / weight)
    assert totals["images"] == COUNT
    assert training.step._cache_size() == 1


@pytest.mark.parametrize("ema", [0.7, slow(0.25)])
def test_an_average_is_its_recursion(wide, new_tiny, data, ema):
    """timm's ModelEmaV2, whose decay warms up; 0.25 is reached after two steps."""
    training = Training(widen(new_tiny()), data, ema=ema)
    plain = Training(widen(new_tiny()), data)
    expected = training.raw
    order = np.arange(40, dtype=np.int32)
    for step, window in enumerate(windows(order, BATCH)):
        training.run([window])
        plain.run([window])
        decay = min(ema, (1 + step) / (10 + step))
        for path, array in training.raw.items():
            np.testing.assert_array_equal(array, plain.raw[path])
            expected[path] = decay * expected[path] + (1 - decay) * array
    assert training.state.step == 5
    validated = jax.device_get(all_weights(training.state, training.frozen))
    assert validated.keys() == expected.keys()
    assert "backbone.bn1.var" in validated
    for path, array in expected.items():
        np.testing.assert_allclose(validated[path], array, rtol=1e-12, err_msg=path)
        assert not np.array_equal(array, training.raw[path])
    assert training.step._cache_size() == 1


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.8), slow(Mixing(cutmix=1.0))])
def test_mixed_steps_are_torchs_with_the_same_shares(
    wide, new_tiny, twin_of, data, mixing
):
    """The last of two batches is short: its padding is mixed into no image."""
    model = widen(new_tiny())
    twin = twin_of(model).train()
    optimizer = torch_optimizer(twin)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    steps = list(windows(np.arange(13, dtype=np.int32), BATCH))
    shares, losses = [], []
    for number, (indices, mask) in enumerate(steps):
        rows = indices[mask == 1]
        (key,) = jax.random.split(jax.random.fold_in(KEY, number), 1)
        inputs, labels = torch_inputs(data, rows)
        # The image itself and its partner: what is kept of a white one beside black.
        _, mixing_key = jax.random.split(key)
        white = np.zeros((2, 12, 12, 1), np.float32)
        white[0] = 1
        kept, _, share = MIX(mixing, white, np.ones(2, np.float32), mixing_key)
        kept = torch.tensor(np.asarray(kept)[0].transpose(2, 0, 1)).double()
        shares.append(float(share))
        partner = np.roll(np.arange(len(rows)), -1)
        mixed = kept * inputs + (1 - kept) * inputs[partner]
        logits = twin(mixed)
        loss = shares[-1] * torch.nn.functional.cross_entropy(
            logits, labels, weight
        ) + (1 - shares[-1]) * torch.nn.functional.cross_entropy(
            logits, labels[partner], weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * weight[labels].sum().item())
    assert len(set(shares)) == 2
    training = Training(model, data, mixing=mixing, loss=Loss(class_weights=WEIGHTS))
    training.run(steps)
    assert_same(training.in_torchs_names(), twin.state_dict(), rtol=1e-6, atol=1e-8)
    assert float(training.state.totals["loss"]) == pytest.approx(sum(losses), rel=1e-6)


@pytest.mark.slow
def test_step_key_and_place_in_the_window_decide_the_mixing(new_tiny, data):
    """One batch of a window has images, the same ones each time, and is mixed."""
    indices, mask = next(windows(np.arange(8, dtype=np.int32), BATCH))
    training = Training(new_tiny(), data, mixing=Mixing(mixup=1.0), accumulate=3)
    start = jax.device_get(training.state)

    def loss(*, place=0, step=0, key=KEY):
        marks = np.zeros((3, 8), np.float32)
        marks[place] = mask
        training.state = replicate(start._replace(step=np.int32(step)), MESH)
        training.run([(np.repeat(indices, 3, axis=0), marks)], key)
        return float(training.state.totals["loss"])

    other = jax.random.key(4)
    losses = [loss(), loss(place=1), loss(place=2), loss(step=1), loss(key=other)]
    assert len(set(losses)) == 5
    assert loss(step=1) == losses[3]
