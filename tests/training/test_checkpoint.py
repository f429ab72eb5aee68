"""A checkpoint that was not finished takes nothing away."""

import jax
import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.training.checkpoint import load_best_weights, open_checkpoints


def weights_of(epoch):
    return {"head.out.bias": np.full(3, epoch, np.float32)}


def save(checkpoints, epoch, best, *, keep=(), optimizer=None, **more):
    progress = {"best": {"epoch": best}, "history": []} | more
    state = {"step": np.int32(epoch)} if optimizer is None else optimizer
    checkpoints.save(epoch, weights_of(epoch), state, progress, keep={best, *keep})


def epochs_in(folder):
    return {int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()}


def test_named_epochs_and_the_last_one_are_kept(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 1)
        assert epochs_in(tmp_path) == {1, 2}
        save(checkpoints, 3, 1, keep={2})
        assert epochs_in(tmp_path) == {1, 2, 3}
    # What is kept does not depend on who has the folder open.
    with open_checkpoints(tmp_path) as checkpoints:
        assert epochs_in(tmp_path) == {1, 2, 3}
        save(checkpoints, 4, 1)
        assert epochs_in(tmp_path) == {1, 4}
        assert checkpoints.load_weights(1)["head.out.bias"][0] == 1
        assert checkpoints.load_weights()["head.out.bias"][0] == 4


@pytest.mark.parametrize("part", ["progress", "optimizer"])
def test_the_best_outlives_the_failed_writing_of_a_better_one(tmp_path, part):
    unwritable = {part: {"what": object()}}
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 1)
        with pytest.raises((TypeError, ValueError)):
            save(checkpoints, 3, 3, **unwritable)
        assert {1, 2} <= epochs_in(tmp_path)
    weights, progress = load_best_weights(tmp_path)
    assert progress["best"]["epoch"] == 1
    np.testing.assert_array_equal(
        weights["head.out.bias"], weights_of(1)["head.out.bias"]
    )
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 3, 3)
        assert epochs_in(tmp_path) == {3}


def test_a_checkpoint_that_was_half_removed_is_not_in_the_way(tmp_path):
    """A run that is killed while it removes what a better epoch replaces."""
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 2, keep={1})
    for file in sorted((tmp_path / "1").rglob("*"))[::2]:
        if file.is_file():
            file.unlink()
    weights, progress = load_best_weights(tmp_path)
    assert progress["best"]["epoch"] == weights["head.out.bias"][0] == 2
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.load_progress() == progress
        save(checkpoints, 3, 3)
    assert epochs_in(tmp_path) == {3}


def test_the_state_of_another_optimiser_is_refused(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        like = {"step": jax.numpy.int32(0)}
        assert checkpoints.load_optimizer(like)["step"] == 1
        with pytest.raises(InputError, match="other optimisers, or another ema"):
            checkpoints.load_optimizer(like | {"momentum": jax.numpy.zeros(3)})
