"""Augmentation of batches: per image, by key, at the network's size."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxmed.data.transforms.augmentation import (
    NO_AUGMENTATION,
    PRESETS,
    Augmentation,
    augment_stored,
    create_augmentation,
)
from jaxmed.data.transforms.color import ColorJitter
from jaxmed.data.transforms.crops import RandomErasing, RandomResizedCrop, ResizeAndCrop
from jaxmed.data.transforms.geometry import HorizontalFlip, Rotation, VerticalFlip
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError

KEY = jax.random.key(5)
EVERYTHING = Augmentation(
    crop=RandomResizedCrop(),
    ops=(HorizontalFlip(), Rotation(degrees=20), ColorJitter(hue=0.1)),
)


def stored(count=4, side=12, channels=3):
    rng = np.random.default_rng(side + channels)
    return rng.integers(0, 256, (count, side, side, channels), np.uint8)


def test_the_operations_follow_one_another_with_keys_of_their_own():
    """On one image, by hand."""
    images = stored(2)
    found = EVERYTHING(images, KEY, 8)
    for image, key, result in zip(images, jax.random.split(KEY, 2), found, strict=True):
        crop_key, *keys = jax.random.split(key, 4)
        image = image.astype(np.float32)
        crop = EVERYTHING.crop
        image = crop.apply(image, crop.draw(crop_key, 12, 12, (8, 8)), (8, 8))
        for op, own in zip(EVERYTHING.ops, keys, strict=True):
            image = op.apply(image, op.draw(own, 8, 8))
        np.testing.assert_allclose(result, image, atol=0.01)


def test_every_image_changes_in_its_own_way_and_the_key_alone_decides_it():
    images = np.repeat(stored(1), 6, axis=0)
    first = np.asarray(EVERYTHING(images, KEY))
    np.testing.assert_array_equal(first, EVERYTHING(images, KEY))
    assert len({image.tobytes() for image in first}) == 6
    other = np.asarray(EVERYTHING(images, jax.random.key(6)))
    assert not {i.tobytes() for i in first} & {i.tobytes() for i in other}


def test_padding_behind_a_batch_changes_nothing_in_it():
    images = stored(6)
    alone = EVERYTHING(images[:4], KEY)
    np.testing.assert_array_equal(EVERYTHING(images, KEY)[:4], alone)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_take_color_and_gray_and_keep_the_range(preset, channels):
    augmentation = create_augmentation(preset)
    images = stored(8, 14, channels)
    found = np.asarray(augmentation(images, KEY, 14))
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 255.001
    changed = (abs(found - images) > 1e-3).any(axis=(1, 2, 3)).mean()
    assert changed == 0 if preset == "none" else changed > 0.5
    assert bool(augmentation) == (preset != "none")
    assert hash(augmentation) == hash(create_augmentation(preset))
    assert PRESETS[preset].__doc__


@pytest.mark.parametrize("preset", ["xray", "ultrasound", "fundus"])
def test_what_has_an_up_is_never_turned_upside_down(preset):
    """Nor is an X-ray mirrored: the bright quarter stays where it is."""
    image = np.zeros((1, 32, 32, 1), np.uint8)
    image[:, :12, :12] = 200
    found = create_augmentation(preset)(np.repeat(image, 40, axis=0), KEY, 32)
    upper = np.asarray(found)[:, :16].sum(axis=(1, 2, 3))
    left = np.asarray(found)[:, :, :16].sum(axis=(1, 2, 3))
    total = np.asarray(found).sum(axis=(1, 2, 3))
    assert (upper / total > 0.7).all()
    mirrored = left / total < 0.3
    assert mirrored.any() == (preset != "xray")


def test_tutorials_lists_are_torchvisions_settings():
    blood = PRESETS["flip_rotate_jitter"]()
    jitter = ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    assert blood.ops == (HorizontalFlip(), Rotation(degrees=10), jitter)
    assert PRESETS["shift_flip_rotate_jitter"]().crop == ResizeAndCrop(factor=256 / 224)
    assert PRESETS["zoom_flip"]().crop == RandomResizedCrop(scale=(0.8, 1.0))
    zoomed = PRESETS["zoom_flip_rotate_jitter"]()
    assert zoomed.crop == RandomResizedCrop(scale=(0.85, 1.0))
    assert zoomed.ops[1] == Rotation(degrees=7)


def test_a_preset_is_changed_where_asked():
    assert create_augmentation("xray", horizontal_flip=True).ops == (
        HorizontalFlip(),
        *create_augmentation("xray").ops,
    )
    cells = create_augmentation("microscopy", horizontal_flip=False).ops
    assert not any(isinstance(op, HorizontalFlip) for op in cells)
    assert any(isinstance(op, VerticalFlip) for op in cells)
    erased = create_augmentation("none", random_erasing=0.25)
    assert erased.ops == (RandomErasing(probability=0.25),)
    assert not create_augmentation("none", horizontal_flip=False)
    with pytest.raises(InputError, match="Did you mean 'xray'"):
        create_augmentation("xrays")
    with pytest.raises(InputError, match="probability must be in"):
        create_augmentation("xray", random_erasing=1.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stored_channels", [1, 3])
def test_stored_images_arrive_at_the_networks_size(channels, stored_channels):
    preprocessing = Preprocessing(
        image_size=16, channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels
    )
    images = stored(3, 12, stored_channels)
    for augmentation in (EVERYTHING, replace(EVERYTHING, crop=None), NO_AUGMENTATION):
        found = augment_stored(
            images, KEY, augmentation=augmentation, preprocessing=preprocessing
        )
        assert found.shape == (3, 16, 16, min(channels, stored_channels))
        inputs = preprocessing.normalize(found)
        assert inputs.shape == (3, 16, 16, channels)
    np.testing.assert_array_equal(inputs, preprocessing(images))


def test_augmentations_are_described_for_json():
    assert create_augmentation("zoom_flip").describe() == [
        {"op": "RandomResizedCrop", "scale": (0.8, 1.0), "ratio": (0.75, 4 / 3)},
        {"op": "HorizontalFlip", "probability": 0.5},
    ]
    assert NO_AUGMENTATION.describe() == []
