"""BatchNorm against torch.nn.BatchNorm2d, and which layers train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxmed.models.layers.normalization import BatchNorm, norm_paths, set_training_norms
from jaxmed.models.parameters import merge, split
from jaxmed.models.registry import create_model

CHANNELS = 5


@pytest.fixture
def layers():
    """Our layer and torch's, both in training mode with the same random numbers."""
    return _layers()


def _layers(*, epsilon=1e-5, momentum=0.1):
    draw = np.random.default_rng(0)
    ours = BatchNorm(CHANNELS, epsilon=epsilon, momentum=momentum)
    theirs = torch.nn.BatchNorm2d(CHANNELS, eps=epsilon, momentum=momentum)
    for our, their in (
        (ours.scale, theirs.weight),
        (ours.bias, theirs.bias),
        (ours.mean, theirs.running_mean),
        (ours.var, theirs.running_var),
    ):
        values = draw.uniform(0.5, 1.5, CHANNELS).astype(np.float32)
        our[...] = jnp.asarray(values)
        assert their is not None
        their.data = torch.from_numpy(values.copy())
    ours.training = True
    return ours, theirs.train()


def _images(n: int, seed: int = 1) -> np.ndarray:
    images = np.random.default_rng(seed).standard_normal((n, 4, 3, CHANNELS))
    # Channels with different means and spreads.
    return (images * np.arange(1, 6) + np.arange(5)).astype(np.float32)


def _torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _nhwc(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def _agree(ours: BatchNorm, theirs: torch.nn.BatchNorm2d) -> None:
    mean, var = theirs.running_mean, theirs.running_var
    assert mean is not None
    assert var is not None
    np.testing.assert_allclose(ours.mean[...], mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.var[...], var.numpy(), rtol=1e-5, atol=1e-6)


def test_training_matches_torch(layers):
    ours, theirs = layers
    for seed in range(3):
        images = _images(6, seed)
        expected = _nhwc(theirs(_torch(images)))
        np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5)
        _agree(ours, theirs)


def test_epsilon_and_momentum_are_torchs():
    ours, theirs = _layers(epsilon=0.5, momentum=0.01)
    images = _images(6)
    expected = _nhwc(theirs(_torch(images)))
    np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5)
    _agree(ours, theirs)


def test_eval_matches_torch_and_changes_nothing(layers):
    ours, theirs = layers
    ours.training = False
    before = np.asarray(ours.mean[...]), np.asarray(ours.var[...])
    images = _images(6)
    expected = _nhwc(theirs.eval()(_torch(images)))
    np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(before[0], ours.mean[...])
    assert np.array_equal(before[1], ours.var[...])


@pytest.mark.parametrize("real", [1, 3, 5])
def test_padding_is_invisible(layers, real):
    ours, theirs = layers
    images = _images(6)
    images[real:] = 1000
    mask = (np.arange(6) < real).astype(np.float32)
    expected = _nhwc(theirs(_torch(images[:real])))
    output = ours(images, mask=mask)
    np.testing.assert_allclose(output[:real], expected, rtol=1e-4, atol=1e-5)
    _agree(ours, theirs)


@pytest.mark.parametrize("padding", [0, 2])
def test_gradients_match_torch(layers, padding):
    ours, theirs = layers
    images, cotangent = _images(6), _images(6, seed=9)
    tensor = _torch(images).requires_grad_()
    theirs(tensor).backward(_torch(cotangent))

    mask = np.concatenate([np.ones(6), np.zeros(padding)]).astype(np.float32)
    padded = np.concatenate([images, np.full_like(images[:padding], 7)])
    parts = split(ours)

    def loss(params, images):
        output = merge(parts.definition, params, parts.stats)(images, mask=mask)
        return (output[:6] * cotangent).sum()

    params, inputs = jax.grad(loss, argnums=(0, 1))(parts.params, padded)
    assert tensor.grad is not None
    np.testing.assert_allclose(inputs[:6], _nhwc(tensor.grad), rtol=1e-3, atol=1e-4)
    assert not np.any(inputs[6:])
    for name, parameter in (("scale", theirs.weight), ("bias", theirs.bias)):
        assert parameter.grad is not None
        np.testing.assert_allclose(params[name], parameter.grad, rtol=1e-4, atol=1e-4)


def test_devices_share_their_statistics(layers):
    """Half a batch per device gives what the whole batch gives on one."""
    ours, theirs = layers
    images = _images(6)
    expected = _nhwc(theirs(_torch(images)))
    ours.axis_name = "devices"
    parts = split(ours)

    def one_device(images):
        layer = merge(*parts)
        output = layer(images)
        return output, layer.mean[...], layer.var[...]

    halves = images.reshape(2, 3, *images.shape[1:])
    output, mean, var = jax.vmap(one_device, axis_name="devices")(halves)
    np.testing.assert_allclose(
        output.reshape(images.shape), expected, rtol=1e-4, atol=1e-5
    )
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    for half in range(2):
        np.testing.assert_allclose(mean[half], theirs.running_mean, rtol=1e-5)
        np.testing.assert_allclose(var[half], theirs.running_var, rtol=1e-5)


def test_a_frozen_stage_keeps_its_statistics():
    model = create_model("resnet10_narrow", num_classes=2)
    paths = norm_paths(model)
    assert paths == sorted(paths)
    assert len(paths) == 1 + 4 * 2 + 3
    trained = [path for path in paths if path.startswith("backbone.layer4.")]
    assert len(trained) == 3

    set_training_norms(model, trained)
    before = split(model).stats
    images = np.random.default_rng(0).standard_normal((2, 96, 96, 3), np.float32)
    nnx.jit(lambda model, images: model(images))(model, images)

    moved = {
        path.rpartition(".")[0]
        for path, array in split(model).stats.items()
        if not np.array_equal(array, before[path])
    }
    assert moved == set(trained)

    set_training_norms(model, [])
    assert not any(
        module.training
        for _, module in nnx.iter_modules(model)
        if isinstance(module, BatchNorm)
    )
