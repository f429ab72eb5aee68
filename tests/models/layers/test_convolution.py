"""Convolutions, those of small maps and depthwise ones too, against torch."""

import jax
import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch.utils import Conv2dDynamicSamePadding
from flax import nnx

from jaxmed.models.layers.convolution import convolution


def pair(size, stride, groups=1, same=False):
    channels = 6, (6 if groups == 6 else 4)
    ours = convolution(
        *channels, size, stride=stride, groups=groups, same=same, rngs=nnx.Rngs(0)
    )
    padded = Conv2dDynamicSamePadding if same else torch.nn.Conv2d
    options = {} if same else {"padding": size // 2}
    theirs = padded(
        *channels, size, stride=stride, groups=groups, bias=False, **options
    )
    kernel = np.asarray(ours.kernel[...]).transpose(3, 2, 0, 1)
    theirs.weight.data = torch.from_numpy(kernel.copy())
    return ours, theirs


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "groups", "shape"),
    [
        (3, 1, 1, (1, 1)),
        (3, 1, 1, (2, 3)),
        (3, 1, 1, (9, 9)),
        (3, 2, 1, (7, 5)),
        (7, 2, 1, (4, 4)),
        (1, 2, 1, (3, 3)),
        (3, 1, 2, (3, 3)),
        (3, 1, 6, (9, 8)),
        (3, 2, 6, (7, 4)),
        (5, 2, 6, (8, 9)),
        (5, 1, 6, (2, 1)),
        (3, 2, 1, (8, 6)),
        (3, 2, 6, (8, 6)),
    ],
)
def test_values_and_gradients_are_torchs(size, stride, groups, shape, same):
    ours, theirs = pair(size, stride, groups, same)
    x = np.random.default_rng(0).normal(size=(2, *shape, 6)).astype(np.float32)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    expected = theirs(images)
    expected.square().sum().backward()
    definition, kernel = nnx.split(ours)

    def loss(kernel, x):
        y = nnx.merge(definition, kernel)(x)
        return (y**2).sum(), y

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (to_kernel, to_x), y = gradients(kernel, x)
    assert images.grad is not None
    assert theirs.weight.grad is not None
    for mine, other in (
        (np.asarray(y), expected.detach()),
        (np.asarray(to_x), images.grad),
        (np.asarray(to_kernel["kernel"][...]).transpose(2, 0, 1, 3), None),
    ):
        if other is None:
            other = theirs.weight.grad.permute(1, 2, 3, 0)
        else:
            other = other.permute(0, 2, 3, 1)
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the CPU's slow path")
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(
    ("size", "groups", "side", "convolves"),
    [
        (3, 1, 2, False),
        (3, 1, 4, False),
        (3, 1, 5, True),
        (3, 2, 2, True),
        (3, 6, 9, False),
    ],
)
def test_small_maps_and_depthwise_kernels_need_no_convolution(
    size, groups, side, convolves, same
):
    ours, _ = pair(size, 1, groups, same)
    text = jax.jit(lambda x: ours(x)).lower(np.zeros((1, side, side, 6))).as_text()
    assert ("stablehlo.convolution" in text) == convolves


def test_the_platform_that_a_program_is_lowered_for_decides_how():
    ours, _ = pair(3, 1, groups=6)
    definition, kernel = nnx.split(ours)
    call = jax.jit(lambda kernel, x: nnx.merge(definition, kernel)(x))
    traced = call.trace(kernel, jax.ShapeDtypeStruct((1, 8, 8, 6), np.float32))
    convolutions = {
        platform: traced.lower(lowering_platforms=(platform,))
        .as_text()
        .count("stablehlo.convolution")
        for platform in ("cpu", "cuda", "tpu")
    }
    assert convolutions == {"cpu": 0, "cuda": 0, "tpu": 1}
