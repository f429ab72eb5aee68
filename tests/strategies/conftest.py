"""Weights, gradients, and what ours and torch's optimizers make of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


@pytest.fixture(scope="session")
def draw() -> Callable:
    def draw(shapes, steps=20):
        """Weights by path, and a gradient of each for every step, float64."""
        random = np.random.default_rng(0)
        start = {path: random.normal(size=shape) for path, shape in shapes.items()}
        gradients = [
            {path: random.normal(size=shape) for path, shape in shapes.items()}
            for _ in range(steps)
        ]
        return start, gradients

    return draw


@pytest.fixture(scope="session")
def train() -> Callable:
    def train(transformation, start, gradients):
        """Our weights at the end, in double precision.

        In single 1 - 0.999 alone is wrong by 5e-5.
        """
        with jax.enable_x64(True):
            params = {path: jnp.asarray(array) for path, array in start.items()}
            state = transformation.init(params)
            update = jax.jit(transformation.update)
            for gradient in gradients:
                gradient = {path: jnp.asarray(gradient[path]) for path in params}
                updates, state = update(gradient, state, params)
                params = optax.apply_updates(params, updates)
            return {path: np.asarray(array) for path, array in params.items()}

    return train


@pytest.fixture(scope="session")
def train_torch() -> Callable:
    def train_torch(make, start, gradients, *, clip=None, highest_rate=None):
        """Torch's weights at the end; `make` gets the parameters by path."""
        import torch

        params = {
            path: torch.nn.Parameter(torch.from_numpy(array.copy()))
            for path, array in start.items()
        }
        optimizer = make(params)
        cycle = None
        if highest_rate is not None:
            cycle = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=highest_rate, total_steps=len(gradients)
            )
        for gradient in gradients:
            for path, param in params.items():
                param.grad = torch.from_numpy(gradient[path].copy())
            if clip:
                torch.nn.utils.clip_grad_norm_(params.values(), clip)
            optimizer.step()
            if cycle:
                cycle.step()
        return {path: param.detach().numpy() for path, param in params.items()}

    return train_torch


@pytest.fixture(scope="session")
def same() -> Callable:
    def same(ours, expected, rtol=1e-6):
        assert ours.keys() == expected.keys()
        for path, array in ours.items():
            np.testing.assert_allclose(array, expected[path], rtol=rtol, err_msg=path)

    return same
