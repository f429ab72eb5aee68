"""The picture of augmented images, and [augment] of a recipe."""

import re
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from jaxmed.config.recipes import load_recipe
from jaxmed.config.schema import AugmentConfig
from jaxmed.data import Augmentation, create_augmentation
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.transforms.augmentation import PRESETS
from jaxmed.data.transforms.geometry import HorizontalFlip
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.prepare import check_arm, make_augmentation
from jaxmed.experiments.pipeline.sample_images import (
    APART,
    AUGMENTED_ROWS,
    GAP,
    TILE,
    VIEWS,
    augmented_grid,
    write_augmented,
)

PREPROCESSING = Preprocessing(image_size=TILE)
MIRRORED = Augmentation(ops=(HorizontalFlip(probability=1.0),))


def data_of(labels, channels):
    """Images as large as tiles, each of one's own noise."""
    rng = np.random.default_rng(0)
    labels = np.asarray(labels, np.int32)
    shape = (len(labels), TILE, TILE, channels)
    images = rng.integers(0, 256, shape, np.uint8)
    train, val, test = (
        Split(
            images=images,
            labels=labels,
            ids=tuple(f"{name}/{index}" for index in range(len(labels))),
        )
        for name in ("train", "val", "test")
    )
    return Dataset(
        name="noise", source="test", task="multiclass", class_names=("a", "b"),
        train=train, val=val, test=test, image_size=TILE,
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_stands_beside_its_views(channels):
    data = data_of([0, 0, 0, 1, 1, 1], channels)
    grid = augmented_grid(data, MIRRORED, PREPROCESSING)
    side = TILE + GAP
    assert grid.shape == (
        AUGMENTED_ROWS * side - GAP,
        (1 + VIEWS) * side - GAP + APART,
        3,
    )
    shown = []
    for row in range(AUGMENTED_ROWS):
        strip = grid[row * side :][:TILE]
        image = strip[:, :TILE]
        for view in range(1, 1 + VIEWS):
            left = view * side + APART
            np.testing.assert_array_equal(strip[:, left:][:, :TILE], image[:, ::-1])
        (found,) = np.flatnonzero((data.train.images == image).all(axis=(1, 2, 3)))
        shown.append(int(found))
    assert len(set(shown)) == AUGMENTED_ROWS
    assert [index // 3 for index in shown] == [0, 1, 0, 1]


def test_few_images_make_few_rows():
    grid = augmented_grid(data_of([0, 1, 1], 1), MIRRORED, PREPROCESSING)
    assert grid.shape[0] == 3 * (TILE + GAP) - GAP


def test_the_picture_is_written_once_and_only_if_images_change(tmp_path):
    data = data_of([0, 1, 1, 0], 3)
    path = tmp_path / "augmented.png"

    def write(augmentation):
        write_augmented(
            tmp_path, data, augmentation=augmentation, preprocessing=PREPROCESSING
        )

    write(create_augmentation("none"))
    assert not path.exists()
    write(MIRRORED)
    before = path.stat().st_mtime_ns
    with Image.open(path) as picture:
        picture.verify()
    write(create_augmentation("xray"))
    assert path.stat().st_mtime_ns == before


def test_recipes_augment_arm_by_arm(tmp_path):
    path = tmp_path / "flips.toml"
    path.write_text(
        '[data]\nsource = "cells"\n[augment]\npreset = "xray"\n[arms.as_it_is]\n'
        'augment.preset = "none"\n[arms.turned]\naugment.horizontal_flip = "on"\n'
    )
    arms = load_recipe(path).arms
    found = {arm: make_augmentation(config.augment) for arm, config in arms.items()}
    assert found["as_it_is"] == create_augmentation("none")
    assert found["turned"] == create_augmentation("xray", horizontal_flip=True)


def test_settings_become_the_augmentation():
    config = AugmentConfig(preset="fundus", horizontal_flip="off", random_erasing=0.3)
    assert make_augmentation(config) == create_augmentation(
        "fundus", horizontal_flip=False, random_erasing=0.3
    )
    assert make_augmentation(AugmentConfig()) == create_augmentation("none")


def test_an_unknown_preset_names_the_arm_and_the_nearest(tmp_path):
    path = tmp_path / "typo.toml"
    path.write_text('[data]\nsource = "cells"\n[augment]\npreset = "histolgy"\n')
    (config,) = load_recipe(path).arms.values()
    with pytest.raises(InputError, match=r"^Arm main: .*Did you mean 'histology'"):
        check_arm(config, "main")


def test_every_preset_is_named_in_the_help():
    (preset, *_) = fields(AugmentConfig)
    named = set(re.findall(r"\w+", preset.metadata["doc"]))
    assert named >= set(PRESETS)
