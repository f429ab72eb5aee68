"""Stochastic depth: what is dropped, how often, and what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmed.models.layers.stochastic_depth import drop_rows

BRANCH = np.random.default_rng(0).uniform(1, 2, (4000, 2, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_whole_rows_are_dropped_and_the_expectation_stays(probability):
    dropped = np.asarray(drop_rows(BRANCH, probability, rngs=nnx.Rngs(dropout=0)))
    gone = (dropped == 0).all(axis=(1, 2, 3))
    assert np.array_equal(
        dropped[~gone], BRANCH[~gone] * np.float32(1 / (1 - probability))
    )
    # The number of rows that went is binomial; five standard errors.
    error = np.sqrt(probability * (1 - probability) / len(BRANCH))
    assert abs(gone.mean() - probability) < 5 * error
    spread = dropped.std(axis=0) / np.sqrt(len(BRANCH))
    assert np.all(np.abs(dropped.mean(axis=0) - BRANCH.mean(axis=0)) < 5 * spread)


def test_nothing_is_dropped_without_a_random_stream_or_a_probability():
    assert drop_rows(BRANCH, 0.5, rngs=None) is BRANCH
    assert drop_rows(BRANCH, 0.0, rngs=nnx.Rngs(dropout=0)) is BRANCH


def test_every_call_and_every_seed_tosses_its_own_coins():
    def gone(rngs):
        return np.asarray(drop_rows(BRANCH, 0.5, rngs=rngs))[:, 0, 0, 0] == 0

    rngs = nnx.Rngs(dropout=0)
    first, second = gone(rngs), gone(rngs)
    assert np.array_equal(first, gone(nnx.Rngs(dropout=0)))
    for other in (second, gone(nnx.Rngs(dropout=1))):
        assert 0.4 < (first == other).mean() < 0.6


def test_rows_that_were_dropped_have_no_gradient():
    rows = jnp.asarray(BRANCH[:50])

    def total(rows):
        return drop_rows(rows, 0.5, rngs=nnx.Rngs(dropout=0)).sum()

    gone = np.asarray(drop_rows(rows, 0.5, rngs=nnx.Rngs(dropout=0)))[:, 0, 0, 0] == 0
    gradient = np.asarray(jax.jit(jax.grad(total))(rows))
    assert 0 < gone.sum() < 50
    assert np.all(gradient[gone] == 0)
    assert np.all(gradient[~gone] == 2)
