"""Planted duplicates are found, and images that merely look alike are not."""

import io
import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image

from jaxmed.data.audit import duplicates
from jaxmed.data.audit.audit import survey
from jaxmed.data.audit.duplicates import (
    Duplicates,
    find_duplicates,
    hash_thumbnails,
    join_fingerprints,
    shrink,
    take_fingerprints,
)
from jaxmed.data.dataset import Dataset, Split, Task, number_ids
from jaxmed.data.sources.synthetic_cells.cells import DRAWINGS, draw_arrays


def build(splits: dict, task: Task = "binary", names=("no", "yes")) -> Dataset:
    """A data set of {"train": (images, labels), ...}."""
    made = {
        name: Split(
            images=images,
            labels=np.asarray(labels, np.int32),
            ids=number_ids(name, len(images)),
        )
        for name, (images, labels) in splits.items()
    }
    return Dataset(
        name="planted", source="planted", task=task, class_names=names, image_size=64,
        **made,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """70 different drawn cells, uint8 (70, 96, 96, 3)."""
    drawing = DRAWINGS[""]
    small = replace(drawing, counts={"train": 8, "val": 1, "test": 1})
    arrays = draw_arrays(small)
    return np.concatenate([arrays[f"{s}_images"] for s in ("train", "val", "test")])


def three(train, val, test) -> Dataset:
    return build({
        "train": (train, np.arange(len(train)) % 2),
        "val": (val, np.arange(len(val)) % 2),
        "test": (test, np.arange(len(test)) % 2),
    })  # fmt: skip


def find(data: Dataset) -> Duplicates:
    return find_duplicates(data, survey(data).prints)


def test_nothing_is_found_in_different_images(cells):
    found = find(three(cells[:40], cells[40:55], cells[55:]))
    assert (found.exact, found.near, found.blank) == ((), (), ())
    assert found.complete


def test_equal_pixels_are_one_group_with_splits_and_labels(cells):
    train, val, test = cells[:40].copy(), cells[40:55].copy(), cells[55:].copy()
    val[3] = train[10]
    test[4] = train[10]
    train[20] = train[22]
    found = find(three(train, val, test))
    first, second = found.exact
    assert first.kind == "exact"
    assert first.ids == ("train/000010", "val/000003", "test/000004")
    assert first.splits == ("train", "val", "test")
    assert first.labels == ("no", "yes", "no")
    assert first.across
    assert first.labels_differ
    assert second.ids == ("train/000020", "train/000022")
    assert not second.across
    assert not second.labels_differ
    assert found.near == ()


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=20)
    return np.asarray(Image.open(file))


def resize(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(image.shape[:2], Image.Resampling.BICUBIC))


def darken(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) - 40, 0, 255).astype(np.uint8)


def fade(image: np.ndarray) -> np.ndarray:
    return (image * 0.6 + 40).astype(np.uint8)


def add_noise(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [jpeg, resize, darken, fade, add_noise])
def test_changed_copies_are_near_duplicates(cells, change):
    val = np.stack([change(image) for image in cells[:15]])
    found = find(three(cells[:40], val, cells[55:]))
    expected = {(f"train/{i:06d}", f"val/{i:06d}") for i in range(15)}
    assert {pair.ids for pair in found.near} == expected
    assert found.exact == ()
    for pair in found.near:
        assert pair.kind == "near"
        assert pair.across
        assert not pair.labels_differ
        assert pair.distance <= duplicates.RADIUS
        assert duplicates.SIMILARITY <= pair.similarity <= 1
    similarities = [pair.similarity for pair in found.near]
    assert similarities == sorted(similarities, reverse=True)


def test_different_labels_of_near_duplicates_are_marked(cells):
    val = cells[40:55].copy()
    val[1] = jpeg(cells[2])
    (pair,) = find(three(cells[:40], val, cells[55:])).near
    assert pair.labels == ("no", "yes")
    assert pair.labels_differ


def test_multilabel_labels_are_named(cells):
    labels = np.zeros((40, 3), np.int32)
    labels[1] = 1, 0, 1
    rest = np.zeros((15, 3), np.int32)
    val = cells[40:55].copy()
    val[0] = cells[1]
    splits = {"train": (cells[:40], labels), "val": (val, rest)}
    splits |= {"test": (cells[55:], rest)}
    data = build(splits, "multilabel", ("edema", "mass", "nodule"))
    (group,) = find(data).exact
    assert group.labels == ("edema, nodule", "none")
    assert group.labels_differ


def test_blank_images_are_named_and_not_compared(cells):
    train = cells[:40].copy()
    rng = np.random.default_rng(0)
    train[5] = 255
    train[6] = rng.integers(99, 102, train[6].shape)
    train[7] = rng.integers(99, 102, train[7].shape)
    found = find(three(train, cells[40:55], cells[55:]))
    assert found.blank == ("train/000005", "train/000006", "train/000007")
    assert found.near == ()


def test_the_search_ends_when_there_are_too_many(cells, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 20)
    rng = np.random.default_rng(0)
    film = np.stack([cells[0]] * 15)
    film ^= rng.integers(0, 2, film.shape).astype(np.uint8)
    found = find(three(film, cells[40:55], cells[55:]))
    assert len(found.near) == 20
    assert not found.complete


def test_parts_of_the_comparison_do_not_change_what_is_found(cells, monkeypatch):
    val = np.stack([jpeg(image) for image in cells[:15]])
    data = three(cells[:40], val, cells[55:])
    whole = find(data).near
    monkeypatch.setattr(duplicates, "CELLS", 200)
    assert find(data).near == whole


def test_ten_thousand_images_take_seconds():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 28, 28, 1)).astype(np.uint8)
    images[9_999] = images[3]
    started = time.process_time()
    found = find(three(images[:8000], images[8000:9000], images[9000:]))
    assert [group.ids for group in found.exact] == [("train/000003", "test/000999")]
    # A second by itself; Python's loops over pairs would take a minute.
    assert time.process_time() - started < 20


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
