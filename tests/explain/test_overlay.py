"""The picture of a map."""

import cv2
import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.explain.overlay import OPACITY, overlay

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (28, 28, 3), dtype=np.uint8)
BRIGHT_END = np.array([253, 231, 37])  # of viridis, rounded to whole numbers


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28, 3), (224, 448, 3)),
        ((64, 64, 1), (256, 512, 3)),
        ((224, 224, 3), (224, 448, 3)),
        ((300, 250, 3), (300, 500, 3)),
        ((100, 150, 1), (300, 900, 3)),
    ],
)
def test_size(shape, expected):
    image = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    result = overlay(image, np.zeros((7, 7)))
    assert result.shape == expected
    assert result.dtype == np.uint8


def test_the_left_half_is_the_image_with_square_pixels():
    left = overlay(IMAGE, RANDOM.random((7, 7)))[:, :224]
    expected = cv2.resize(IMAGE, (224, 224), interpolation=cv2.INTER_NEAREST)
    assert (left == expected).all()


def test_zero_leaves_the_image_as_it_is():
    result = overlay(IMAGE, np.zeros((224, 224)))
    assert (result[:, :224] == result[:, 224:]).all()


def test_one_is_the_bright_end_of_the_colors():
    right = overlay(np.full((224, 224, 1), 100, np.uint8), np.ones((7, 7)))[:, 224:]
    expected = (1 - OPACITY) * 100 + OPACITY * BRIGHT_END
    # The picture is rounded, and so is the color above.
    assert np.abs(right - expected).max() <= 0.5 + 0.5 * OPACITY


def test_the_map_is_stretched_as_cv2_stretches_it():
    cam = RANDOM.random((7, 7)).astype(np.float32)
    stretched = cv2.resize(cam, (224, 224))
    image = np.zeros((224, 224, 3), np.uint8)
    right = overlay(image, cam)[:, 224:]
    same = overlay(image, np.clip(stretched, 0, 1))[:, 224:]
    assert np.abs(right.astype(int) - same).max() <= 2


@pytest.mark.parametrize(
    ("image", "cam", "message"),
    [
        (IMAGE / 255, np.zeros((7, 7)), "uint8 image .* got float64"),
        (IMAGE[..., :2], np.zeros((7, 7)), r"\(28, 28, 2\)"),
        (IMAGE[..., 0], np.zeros((7, 7)), r"\(28, 28\)"),
        (IMAGE, np.full((7, 7), 1.5), "within .* 1.5"),
        (IMAGE, np.full((7, 7), np.nan), "nan"),
        (IMAGE, np.zeros((1, 7, 7)), r"\(1, 7, 7\)"),
    ],
)
def test_refused(image, cam, message):
    with pytest.raises(InputError, match=message):
        overlay(image, cam)
