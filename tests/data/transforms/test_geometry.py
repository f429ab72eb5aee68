"""Flips and turns against torchvision and torch, at fixed parameters."""

import jax
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from jaxmed.data.transforms.geometry import (
    HorizontalFlip,
    QuarterTurns,
    Rotation,
    VerticalFlip,
)
from jaxmed.errors import InputError

ANGLES = [-180.0, -90.0, -33.0, -7.0, 0.0, 3.5, 10.0, 45.0, 90.0, 171.0]


def noise(height=20, width=20, channels=3):
    rng = np.random.default_rng(height * width + channels)
    return rng.integers(0, 256, (height, width, channels)).astype(np.float32)


def to_torch(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def to_numpy(tensor):
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_are_torchvisions_to_the_bit(channels):
    image = noise(11, 14, channels)
    for op, theirs in (
        (HorizontalFlip(), F.horizontal_flip),
        (VerticalFlip(), F.vertical_flip),
    ):
        expected = to_numpy(theirs(to_torch(image)))
        np.testing.assert_array_equal(op.apply(image, np.bool_(True)), expected)
        np.testing.assert_array_equal(op.apply(image, np.bool_(False)), image)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("size", [7, 8])
def test_quarter_turns_are_torchvisions_rotations_to_the_bit(turns, size):
    image = noise(size, size)
    expected = to_numpy(F.rotate(to_torch(image), 90.0 * turns))
    found = QuarterTurns().apply(image, np.int32(turns))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("shape", [(20, 20, 3), (21, 16, 3), (16, 21, 1)])
def test_rotation_is_torchvisions_within_a_tenth_of_a_gray_level(angle, shape):
    image = noise(*shape)
    expected = F.rotate(to_torch(image), angle, InterpolationMode.BILINEAR)
    found = Rotation(degrees=180).apply(image, np.float32(angle))
    np.testing.assert_allclose(found, to_numpy(expected), rtol=0, atol=0.1)


def test_rotation_of_bytes_is_torchvisions_within_a_gray_level():
    image = noise(30, 30)
    tensor = to_torch(image).to(torch.uint8)
    expected = to_numpy(F.rotate(tensor, 10.0, InterpolationMode.BILINEAR))
    found = np.asarray(Rotation(degrees=10).apply(image, np.float32(10)))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("angle", ANGLES)
def test_edge_fill_is_torchs_border_padding(angle):
    image = noise(16, 16)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    theta = torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]], dtype=torch.float32)
    grid = torch.nn.functional.affine_grid(theta, (1, 3, 16, 16), align_corners=False)
    expected = torch.nn.functional.grid_sample(
        to_torch(image)[None], grid, padding_mode="border", align_corners=False
    )[0]
    found = Rotation(degrees=180, fill="edge").apply(image, np.float32(angle))
    np.testing.assert_allclose(found, to_numpy(expected), rtol=0, atol=0.1)


def drawn(op, count=2000):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda key: op.draw(key, 8, 8))(keys))


def test_parameters_are_drawn_as_often_and_as_far_as_they_say():
    # Five standard deviations of a share of 2,000.
    assert abs(drawn(HorizontalFlip()).mean() - 0.5) < 0.056
    assert abs(drawn(VerticalFlip(probability=0.1)).mean() - 0.1) < 0.034
    assert not drawn(HorizontalFlip(probability=0.0)).any()
    turns = np.bincount(drawn(QuarterTurns()), minlength=4) / 2000
    assert (abs(turns - 0.25) < 0.05).all()
    angles = drawn(Rotation(degrees=10))
    assert angles.min() < -9.9
    assert angles.max() > 9.9
    assert abs(angles).max() <= 10


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: HorizontalFlip(probability=1.5), "probability must be in"),
        (lambda: VerticalFlip(probability=-0.1), "probability must be in"),
        (lambda: Rotation(degrees=200), "degrees must be in"),
        (lambda: Rotation(degrees=5, fill="gray"), "fill must be 'zero' or 'edge'"),  # pyright: ignore
        (lambda: QuarterTurns().apply(noise(4, 6), 1), "got 6 x 4 pixels"),  # pyright: ignore
    ],
)
def test_what_cannot_be_is_said(build, words):
    with pytest.raises(InputError, match=words):
        build()
