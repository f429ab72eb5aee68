"""Max pooling against torch, gradient included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmed.models.layers.pooling import max_pool

WINDOWS = [(2, 0), (3, 0), (3, 1)]
SIDES = [(8, 8), (9, 11), (10, 7)]


@pytest.mark.parametrize(("size", "padding"), WINDOWS)
@pytest.mark.parametrize("sides", SIDES)
def test_values_and_gradients_are_torchs_to_the_bit(size, padding, sides):
    # Whole numbers, so that sums are exact and most windows have equals.
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (2, *sides, 4)).astype(np.float32)
    theirs = torch.tensor(images).permute(0, 3, 1, 2).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, size, stride=2, padding=padding)
    slope = torch.tensor(rng.integers(-9, 9, pooled.shape).astype(np.float32))
    pooled.backward(slope)

    ours, gradient = jax.vjp(lambda x: max_pool(x, size, padding=padding), images)

    def here(array):
        return array.detach().permute(0, 2, 3, 1).numpy()

    np.testing.assert_array_equal(ours, here(pooled))
    assert theirs.grad is not None
    np.testing.assert_array_equal(gradient(here(slope))[0], here(theirs.grad))


def test_gradients_of_negative_images_do_not_leak_into_the_padding():
    images = jnp.full((1, 4, 4, 1), -5.0)
    gradient = jax.grad(lambda x: max_pool(x, 3, padding=1).sum())(images)
    assert gradient.sum() == 4
