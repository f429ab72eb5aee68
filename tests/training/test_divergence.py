"""A training that diverges stops, and says where."""

import dataclasses

import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import load_best_weights, open_checkpoints
from jaxmed.data.batching import shuffled
from jaxmed.errors import InputError
from jaxmed.strategies import Group, Optimizer, Phase, Strategy
from jaxmed.training.fit import fit
from jaxmed.training.loss import Loss

POISON = 17
# An image of the last class costs more than float32 can say.
INFINITE = Loss(class_weights=(1.0, 1.0, 3.4e38))


def head_only(rate=0.1, name="sgd", **settings):
    optimizer = Optimizer(name=name, learning_rate=rate, **settings)
    group = Group(name="head", patterns=("head",), optimizer=optimizer)
    return Strategy(name="one", phases=(Phase(name="only", epochs=2, groups=(group,)),))


@pytest.fixture(scope="module")
def poisoned(quarters):
    """One image is of the last class."""
    labels = (np.arange(30) % 2).astype(np.int32)
    labels[POISON] = 2
    return dataclasses.replace(
        quarters, train=dataclasses.replace(quarters.train, labels=labels)
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_and_its_images_are_named_and_nothing_of_it_is_saved(
    new_tiny, poisoned, tmp_path, accumulate
):
    order = shuffled(30, seed=3, epoch=1)
    seen = 4 * accumulate
    step = int(np.flatnonzero(order == POISON)[0]) // seen
    assert 0 < step < 30 // seen
    images = ", ".join(f"train/{i}" for i in order[step * seen :][:seen])
    settings = {
        "batch_size": 4, "accumulate": accumulate, "seed": 3, "loss": INFINITE,
        "select": "val_accuracy",
    }  # fmt: skip
    where = f"in epoch 1, step {step + 1}, on the images {images}."

    def train(**more):
        with pytest.raises(InputError) as raised:
            fit(new_tiny(), poisoned, head_only(), **settings | more)
        return str(raised.value)

    # Seen at the end of the epoch, named nevertheless.
    said = train()
    assert where in said
    assert "checkpoint" not in said
    folder = tmp_path / "checkpoints"
    said = train(checkpoints=folder, checkpoint_steps=1)
    assert where in said
    good = f"The last good checkpoint is of step {step} of epoch 1, {folder}/0+{step}."
    assert said.endswith(good)
    with open_checkpoints(folder) as saved:
        assert saved.load_progress()
        assert str(saved.latest) == f"0+{step}"
        for array in saved.load_weights().values():
            assert np.isfinite(array).all()
    # It is no accident: the same again goes on from there, and stops there.
    assert train(checkpoints=folder, checkpoint_steps=1) == said
    with pytest.raises(InputError, match="No epoch is finished"):
        load_best_weights(folder)


def test_weights_that_overflow_in_the_last_step_are_not_saved(
    new_tiny, quarters, tmp_path
):
    strategy = head_only(rate=3e38, name="adamw", weight_decay=1e4)
    with pytest.raises(InputError, match=r"not a number in epoch 1, step 1, on the"):
        fit(new_tiny(), quarters, strategy, batch_size=30, checkpoints=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_validation_loss_that_is_not_finite_stops_the_training(
    new_tiny, quarters, tmp_path
):
    labels = (np.arange(30) % 2).astype(np.int32)
    without = dataclasses.replace(
        quarters, train=dataclasses.replace(quarters.train, labels=labels)
    )
    strategy = head_only(rate=3e38, name="adam")
    with pytest.raises(InputError, match=r"The validation loss became \w+ in epoch 1"):
        fit(new_tiny(), without, strategy, batch_size=30, checkpoints=tmp_path)
    assert not list(tmp_path.iterdir())
