"""The perceptual hash against scipy's cosine transform, thumbnails against torch."""

import numpy as np
import pytest
import scipy.fft
import torch

from jaxmed.data.audit.perceptual_hash import (
    hash_thumbnails,
    join_fingerprints,
    shrink,
    take_fingerprints,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_hash_compares_scipys_low_frequencies_with_their_median():
    thumbnails = noise(20, 32, 32).astype(np.float32)
    hashes = hash_thumbnails(thumbnails)
    for thumbnail, found in zip(thumbnails, hashes, strict=True):
        waves = scipy.fft.dctn(thumbnail.astype(np.float64), type=2)[:8, :8].ravel()
        above = waves > np.median(waves[1:])
        bits = np.unpackbits(np.array([found]).view(np.uint8))
        assert bits[0] == 0
        assert (bits[1:] == above[1:]).all()
        # Of 63 numbers 31 lie above their median.
        assert bits.sum() == 31


@pytest.mark.parametrize("side", [32, 64, 224])
def test_shrinking_is_torchs_average_over_areas(side):
    gray = noise(3, side, 2 * side).astype(np.float32)
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(gray), (32, 32))
    np.testing.assert_allclose(shrink(gray), pooled.numpy(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (33, 47), (5, 300)])
def test_shrinking_keeps_mean_and_order_of_brightness(shape):
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
    small = shrink(ramp[None])[0]
    assert small.mean() == pytest.approx(ramp.mean(), rel=1e-5, abs=1e-5)
    assert (np.diff(small, axis=0) >= -1e-4).all()
    assert (np.diff(small, axis=1) >= -1e-4).all()


def test_thumbnails_correlate_as_numpy_says():
    images = noise(6, 40, 40, 3)
    thumbnails = take_fingerprints(images).thumbnails.astype(np.float32)
    flat = shrink(images.mean(axis=3, dtype=np.float32)).reshape(6, -1)
    np.testing.assert_allclose(thumbnails @ thumbnails.T, np.corrcoef(flat), atol=1e-3)


def test_digests_are_equal_for_equal_pixels_only():
    images = np.repeat(noise(3, 8, 8, 1), 2, axis=0)
    images[5, 7, 7] ^= 1
    digests = take_fingerprints(images).digests
    assert digests[0] == digests[1]
    assert digests[2] == digests[3]
    assert len(set(digests)) == 4


def test_constant_images_have_no_contrast_and_no_thumbnail():
    found = take_fingerprints(np.full((2, 9, 9, 3), 7, np.uint8))
    assert (found.deviations == 0).all()
    assert np.abs(found.thumbnails).max() < 1e-3


def test_parts_do_not_change_the_fingerprints():
    images = noise(100, 8, 8, 3)
    whole = take_fingerprints(images)
    parts = [take_fingerprints(images[i : i + 7]) for i in range(0, 100, 7)]
    joined = join_fingerprints(parts)
    for name in ("hashes", "digests", "thumbnails", "deviations"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(joined, name))
