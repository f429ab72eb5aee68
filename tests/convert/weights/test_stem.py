"""Stems for other channels than RGB, with torch's convolution as the judge."""

import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.functional import conv2d

from jaxmed.models.parameters import dotted
from jaxmed.models.registry import FAMILIES, create_model
from jaxmed_convert.abstract_models import outline
from jaxmed_convert.weights.pretrained import adapt_stem

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((3, 3, 3, 8), np.float32)
GRAY = torch.from_numpy(RNG.standard_normal((2, 1, 9, 9), np.float32))
# What the RGB network makes of a gray image.
RGB = conv2d(GRAY.expand(-1, 3, -1, -1), torch.from_numpy(KERNEL).permute(3, 2, 0, 1))


def _response(channels: int, **options) -> torch.Tensor:
    kernel = adapt_stem(KERNEL, channels, **options)
    assert kernel.dtype == np.float32
    assert kernel.shape == (3, 3, channels, 8)
    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
    return conv2d(GRAY.expand(-1, channels, -1, -1), weight)


def test_the_mean_is_torchs_and_gives_a_third():
    expected = torch.from_numpy(KERNEL).permute(3, 2, 0, 1).mean(1, keepdim=True)
    ours = torch.from_numpy(adapt_stem(KERNEL, 1, stem="mean")).permute(3, 2, 0, 1)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(_response(1, stem="mean"), RGB / 3)


def test_the_sum_which_is_the_default_keeps_the_answer_to_a_gray_image():
    torch.testing.assert_close(_response(1, stem="sum"), RGB)
    torch.testing.assert_close(_response(1), RGB)


@pytest.mark.parametrize("channels", [2, 3, 4, 7])
@pytest.mark.parametrize("stem", ["mean", "sum"])
def test_other_numbers_of_channels_keep_it_too(channels, stem):
    torch.testing.assert_close(_response(channels, stem=stem), RGB)


def test_rgb_is_left_alone():
    assert adapt_stem(KERNEL, 3) is KERNEL


@pytest.mark.parametrize("architecture", [family[0] for family in FAMILIES])
def test_one_array_of_every_family_depends_on_the_channels(architecture):
    def shapes(model):
        return {dotted(p): v.shape for p, v in nnx.to_flat_state(nnx.state(model))}

    rgb = shapes(outline(architecture))
    other = shapes(
        nnx.eval_shape(lambda: create_model(architecture, num_classes=1, in_channels=5))
    )
    (stem,) = [path for path in rgb if rgb[path] != other[path]]
    assert rgb[stem][2] == 3
    assert other[stem] == (*rgb[stem][:2], 5, rgb[stem][3])
