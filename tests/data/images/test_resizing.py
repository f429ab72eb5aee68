"""Squashed, padded and cropped images against torchvision, from file to network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from jaxmed.data.images.decode import decode
from jaxmed.data.images.resizing import Resizing, find_start, make_square
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.transforms.augmentation import Augmentation, augment_stored
from jaxmed.data.transforms.crops import RandomResizedCrop, ResizeAndCrop
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError

SIZE = 32
PAD, CROP = Resizing(mode="pad"), Resizing(mode="crop")
ALL = [Resizing(), PAD, CROP, Resizing(mode="crop", factor=1.3)]
SHAPES = [(50, 71), (71, 50), (33, 20), (20, 34), (39, 39), (90, 31), (12, 9), (9, 200)]


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def oracle(resizing, size):
    """What becomes of an image in torchvision."""
    if resizing.mode == "squash":
        return v2.Resize((size, size))
    if resizing.mode == "pad":
        return v2.Compose([v2.Resize(None, max_size=size), v2.CenterCrop(size)])
    return v2.Compose([v2.Resize(round(size * resizing.factor)), v2.CenterCrop(size)])


def seen(images, resizing, size=SIZE):
    """What the network sees of stored images, in gray levels."""
    prepare = Preprocessing(image_size=size, resizing=resizing)
    return np.asarray(prepare.resize(jnp.asarray(images)))


def assert_within_one_level(found, picture, resizing, size=SIZE):
    """On uint8 torchvision rounds twice, after each direction."""
    expected = np.asarray(oracle(resizing, size)(picture)).reshape(size, size, -1)
    assert np.abs(np.floor(found + 0.5) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [*SHAPES, (50, 71, 3), (20, 33, 3)])
@pytest.mark.parametrize("resizing", ALL, ids=str)
def test_a_file_reaches_the_network_as_by_torchvision(tmp_path, shape, resizing):
    path = tmp_path / "image.png"
    picture = Image.fromarray(noise(*shape))
    picture.save(path)
    stored = decode(path, SIZE, resizing)
    side = resizing.stored_side(SIZE)
    assert (stored.shape[:2] != shape[:2]) == (max(shape[:2]) > side)
    assert_within_one_level(seen(stored[None], resizing)[0], picture, resizing)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resizing", ALL, ids=str)
def test_squares_of_small_images_are_the_same(shape, resizing):
    picture = Image.fromarray(noise(*shape))
    stored = np.asarray(make_square(picture, SIZE, resizing))
    assert stored.shape == (resizing.stored_side(SIZE),) * 2
    found = seen(stored[None, ..., None], resizing)[0]
    assert_within_one_level(found, picture, resizing)


@pytest.mark.parametrize(
    "resizing", [PAD, CROP, Resizing(mode="crop", factor=1.15)], ids=str
)
def test_radiographs_of_any_shape_reach_the_network_as_by_torchvision(
    test_data, resizing
):
    path = min((test_data / "chest_xray" / "test" / "PNEUMONIA").glob("*.jpeg"))
    for shape in ((173, 90), (400, 301)):
        picture = Image.open(path).convert("L").resize(shape)
        stored = np.asarray(make_square(picture, 112, resizing))
        found = seen(stored[None, ..., None], resizing, 112)[0]
        assert_within_one_level(found, picture, resizing, 112)


@pytest.mark.parametrize("size", [28, 33, 96])
def test_sizes_are_torchvisions(size):
    rng = np.random.default_rng(size)
    for height, width in rng.integers(1, 120, (100, 2)).tolist():
        image = torch.zeros(1, height, width)
        for resizing, resize in (
            (PAD, v2.Resize(None, max_size=size)),
            (CROP, v2.Resize(round(size * 256 / 224))),
        ):
            rows, columns = resizing.resized_shape(height, width, size)
            if resizing is PAD and size * min(height, width) < max(height, width):
                assert min(rows, columns) == 1  # torchvision refuses it
            else:
                assert resize(image).shape[1:] == (rows, columns)


def test_a_crop_of_what_is_kept_is_the_crop_of_all():
    for size in (8, 9):
        for side in range(size, size + 6):
            for length in range(side, side + 12):
                line = torch.arange(length).expand(1, length, length)
                start = find_start(length, size, side)
                assert 0 <= start <= length - side
                kept = line[:, start : start + side, start : start + side]
                expected = v2.CenterCrop(size)(line)
                assert torch.equal(v2.CenterCrop(size)(kept), expected)


def test_an_image_as_long_as_may_be_is_cropped_without_resizing_all_of_it():
    pixels = np.zeros((3, 20_000), np.uint8)
    pixels[:, 9_990:10_010] = 255
    square = np.asarray(make_square(Image.fromarray(pixels), 224, CROP))
    assert square.shape == (256, 256)
    assert square.all()


@pytest.fixture
def folder(tmp_path):
    """Images of many sizes, by split and class."""
    for i, shape in enumerate(SHAPES * 3):
        place = tmp_path / ("train", "val", "test")[i // 8] / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(*shape)).save(place / f"{i:02d}.png")
    return tmp_path


@pytest.mark.parametrize("resizing", ALL, ids=str)
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_sources_bring_many_sizes_to_one(folder, resizing, kind):
    source = f"folder:{folder}"
    if kind == "table":
        names = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
        rows = [f"{name},{name.parts[1]},{name.parts[0]}" for name in names]
        (folder / "all.csv").write_text("\n".join(["path,label,split", *rows]))
        source = f"table:{folder / 'all.csv'}"
    data = load_dataset(source, image_size=SIZE, resizing=resizing)
    assert data.resizing == resizing
    for split in (data.train, data.val, data.test):
        found = seen(split.images, data.resizing)
        for image, identity in zip(found, split.ids, strict=True):
            assert_within_one_level(image, Image.open(folder / identity), resizing)


@pytest.mark.parametrize("crop", [RandomResizedCrop(scale=(1, 1), ratio=(1, 1)), None])
@pytest.mark.parametrize("shape", [(20, 33), (33, 20)])
def test_training_crops_keep_the_ratio_where_resizing_does(shape, crop):
    """Of the whole square: padded before it is resized, or its middle."""
    image = noise(*shape)
    tensor = torch.from_numpy(image).float()[None]
    squares = {PAD: v2.CenterCrop(33), CROP: v2.CenterCrop(20)}
    for resizing, square in squares.items():
        found = augment_stored(
            jnp.asarray(image)[None, ..., None],
            jax.random.key(0),
            augmentation=Augmentation(crop=crop or ResizeAndCrop(factor=1)),
            preprocessing=Preprocessing(image_size=SIZE, resizing=resizing),
        )
        expected = v2.Resize((SIZE, SIZE), antialias=True)(square(tensor))
        np.testing.assert_allclose(found[0, ..., 0], expected[0], atol=0.01)


def test_training_cuts_out_of_what_torchvision_resizes_to():
    """Resize(256) and RandomCrop(224), as the tutorials train."""
    picture = Image.fromarray(noise(70, 90))
    stored = np.asarray(make_square(picture, 56, CROP))
    resized = np.asarray(v2.Resize(64)(picture))
    starts = set()
    for seed in range(20):
        found = augment_stored(
            jnp.asarray(stored)[None, ..., None],
            jax.random.key(seed),
            augmentation=Augmentation(crop=ResizeAndCrop()),
            preprocessing=Preprocessing(image_size=56, resizing=CROP),
        )
        found = np.asarray(found)[0, ..., 0]
        windows = np.lib.stride_tricks.sliding_window_view(resized, (56, 56))
        apart = np.abs(windows - found).max(axis=(2, 3))
        assert apart.min() <= 1.01
        starts.add(int(apart.argmin()))
    assert len(starts) > 10


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "squish"}, "Unknown way to resize 'squish'. Did you mean 'squash'"),
        ({"mode": "crop", "factor": 0.9}, "must be at least 1, got 0.9"),
        ({"mode": "crop", "factor": float("nan")}, "must be at least 1, got nan"),
    ],
)
def test_bad_options_are_explained(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Resizing(**options)
