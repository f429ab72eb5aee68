"""Crops and erasing against torchvision, at fixed parameters and as drawn."""

import jax
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from jaxmed.data.transforms.crops import (
    Box,
    RandomErasing,
    RandomResizedCrop,
    ResizeAndCrop,
)
from jaxmed.errors import InputError

DRAWS = 1000


def noise(height, width, channels=3):
    rng = np.random.default_rng(height * width + channels)
    return rng.integers(0, 256, (height, width, channels)).astype(np.float32)


def to_torch(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def to_numpy(tensor):
    return tensor.permute(1, 2, 0).numpy()


def box_of(*numbers):
    return Box(*(np.float32(number) for number in numbers))


def boxes(op, height, width, *more):
    """Draws many boxes: top, left, height, width, each (DRAWS,)."""
    keys = jax.random.split(jax.random.key(1), DRAWS)
    drawn = jax.jit(jax.vmap(lambda key: op.draw(key, height, width, *more)))(keys)
    return [np.asarray(part) for part in drawn]


@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [
        ((28, 28, 3), (3, 5, 20, 22), 32),  # larger
        ((40, 50, 3), (3, 8, 37, 31), 16),  # smaller
        ((40, 50, 1), (0, 0, 40, 50), 24),  # all of it
        ((30, 30, 3), (7, 9, 1, 2), 8),  # next to nothing
    ],
)
def test_resized_crops_are_torchvisions(shape, box, size):
    image = noise(*shape)
    top, left, height, width = box
    found = RandomResizedCrop().apply(image, box_of(*box), (size, size))
    tensor = to_torch(image)
    expected = F.resized_crop(
        tensor, top, left, height, width, [size, size], antialias=True
    )
    np.testing.assert_allclose(found, to_numpy(expected), rtol=0, atol=0.01)
    # On bytes torchvision rounds twice, after each direction.
    rounded = F.resized_crop(
        tensor.to(torch.uint8), top, left, height, width, [size, size], antialias=True
    )
    assert np.abs(np.asarray(found) - to_numpy(rounded)).max() <= 1.5


@pytest.mark.parametrize("stored", [28, 64, 80])
@pytest.mark.parametrize("corner", [(0, 0), (8, 3), (8, 8)])
def test_resize_and_crop_is_torchvisions(stored, corner):
    image, op = noise(stored, stored), ResizeAndCrop()
    found = op.apply(image, op.box(*corner, stored, stored, (56, 56)), (56, 56))
    resized = F.resize(to_torch(image), [64, 64], antialias=True)
    expected = F.crop(resized, *corner, 56, 56)
    np.testing.assert_allclose(found, to_numpy(expected), rtol=0, atol=0.01)


def test_every_corner_of_the_resized_image_is_drawn():
    top, left, height, width = boxes(ResizeAndCrop(), 64, 64, (56, 56))
    assert set(top) == set(left) == set(range(9))
    assert set(height) == set(width) == {56}
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.16


@pytest.mark.parametrize(
    ("height", "width", "op"),
    [
        (60, 80, RandomResizedCrop()),
        (50, 50, RandomResizedCrop(scale=(0.8, 1.0))),
        (10, 90, RandomResizedCrop(scale=(0.9, 1.0))),
        (90, 10, RandomResizedCrop(scale=(0.9, 1.0))),
    ],
)
def test_boxes_are_drawn_as_torchvision_draws_them(height, width, op):
    ours = np.stack(boxes(op, height, width, (8, 8)))
    torch.manual_seed(0)
    image = torch.zeros(1, height, width)
    draw = v2.RandomResizedCrop(8, op.scale, op.ratio).make_params
    theirs = [draw([image]) for _ in range(DRAWS)]
    names = ("top", "left", "height", "width")
    expected = np.stack([[one[name] for one in theirs] for name in names])
    # Two means of 1,000 draws each: five standard deviations of their difference.
    limit = 5 * np.sqrt((ours.var(1) + expected.var(1)) / DRAWS) + 1e-9
    assert (abs(ours.mean(1) - expected.mean(1)) <= limit).all()
    assert (abs(ours.std(1) - expected.std(1)) <= limit).all()
    np.testing.assert_array_equal(ours, np.round(ours))
    assert (ours[:2] >= 0).all()
    assert (ours[0] + ours[2]).max() <= height
    assert (ours[1] + ours[3]).max() <= width


def test_erasing_is_torchvisions_to_the_bit():
    image = noise(20, 24)
    box = (3, 5, 9, 11)
    found = RandomErasing(value=7).apply(image, box_of(*box))
    expected = F.erase(to_torch(image), *box, torch.full((3, 1, 1), 7.0))
    np.testing.assert_array_equal(found, to_numpy(expected))
    nothing = RandomErasing().apply(image, box_of(4, 4, 0, 0))
    np.testing.assert_array_equal(nothing, image)


def test_erased_boxes_are_drawn_as_torchvision_draws_them():
    ours = np.stack(boxes(RandomErasing(probability=1.0), 40, 30))
    torch.manual_seed(0)
    draw = v2.RandomErasing(p=1.0).make_params
    theirs = [draw([torch.zeros(3, 40, 30)]) for _ in range(DRAWS)]
    expected = np.array([[one[name] for one in theirs] for name in "ijhw"])
    limit = 5 * np.sqrt((ours.var(1) + expected.var(1)) / DRAWS)
    assert (abs(ours.mean(1) - expected.mean(1)) <= limit).all()
    erased = boxes(RandomErasing(probability=0.3), 40, 30)[2] > 0
    assert abs(erased.mean() - 0.3) < 0.073


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: RandomResizedCrop(scale=(0.5, 1.2)), "scale must be two numbers"),
        (lambda: RandomResizedCrop(scale=(0.9, 0.5)), "scale must be two numbers"),
        (lambda: RandomResizedCrop(ratio=(0.0, 1.0)), "ratio must be two numbers"),
        (lambda: ResizeAndCrop(factor=0.9), "factor must be at least 1"),
        (lambda: RandomErasing(probability=2), "probability must be in"),
        (lambda: RandomErasing(value=300), "value must be in"),
    ],
)
def test_what_cannot_be_is_said(build, words):
    with pytest.raises(InputError, match=words):
        build()
