"""`Preprocessing` against torchvision and Pillow."""

import jax
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from jaxmed.data.transforms.preprocess import Preprocessing, resize
from jaxmed.errors import InputError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SIZES = [
    (28, 28, 112),
    (28, 28, 224),
    (96, 96, 224),
    (224, 224, 112),
    (224, 224, 64),
    (100, 37, 96),
    (61, 150, 96),
    (97, 97, 96),
    (300, 7, 28),
]


def noise(count, height, width, channels):
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (count, height, width, channels), np.uint8)


def levels(images, size):
    """Resized images in gray levels, by jaxmed."""
    return np.asarray(jax.jit(resize, static_argnums=1)(images.astype("f4"), size))


def by_pillow(image, size):
    gray = image.shape[-1] == 1
    pil = Image.fromarray(image[..., 0] if gray else image)
    return np.asarray(v2.Resize((size, size))(pil)).reshape(size, size, -1)


def by_tensor(image, size):
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    resized = v2.Resize((size, size), antialias=True)(tensor)
    return resized.permute(1, 2, 0).numpy()


def assert_within_one_level(images, size):
    ours = levels(images, size)
    floats = np.stack([by_tensor(image.astype("f4"), size) for image in images])
    np.testing.assert_allclose(ours, floats, rtol=0, atol=0.01)
    # On uint8 torchvision rounds twice, after each direction.
    rounded = np.floor(ours + 0.5)
    for oracle in (by_pillow, by_tensor):
        theirs = np.stack([oracle(image, size) for image in images]).astype(int)
        assert np.abs(rounded - theirs).max() <= 1


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_agrees_with_torchvision_on_noise(height, width, size, channels):
    assert_within_one_level(noise(2, height, width, channels), size)


@pytest.mark.parametrize("size", [64, 112, 224])
def test_resize_agrees_with_torchvision_on_small_scans(test_data, size):
    with np.load(test_data / "medmnist" / "breastmnist.npz") as archive:
        images = archive["test_images"][:16, ..., None]
    assert_within_one_level(images, size)


@pytest.mark.parametrize("size", [64, 112, 299])
def test_resize_agrees_with_torchvision_on_radiographs(test_data, size):
    paths = sorted((test_data / "chest_xray" / "test" / "NORMAL").glob("*.jpeg"))[:3]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert_within_one_level(np.stack(images), size)


def test_resize_on_a_stretched_radiograph(test_data):
    path = min((test_data / "chest_xray" / "test" / "PNEUMONIA").glob("*.jpeg"))
    image = np.asarray(Image.open(path).convert("L").resize((173, 90)))
    assert_within_one_level(image[None, ..., None], 112)


def test_whole_pipeline_is_torchvisions():
    images = noise(3, 40, 30, 3)
    ours = np.asarray(Preprocessing(image_size=32)(images))
    chain = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((32, 32), antialias=True),
            v2.Normalize(**IMAGENET),
        ]
    )
    theirs = torch.stack([chain(image) for image in images]).permute(0, 2, 3, 1)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_images_of_the_right_size_are_only_scaled():
    images = noise(2, 24, 24, 3)
    expected = (images / 255 - IMAGENET["mean"]) / IMAGENET["std"]
    found = np.asarray(Preprocessing(image_size=24)(images))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [20, 24])
def test_gray_is_repeated_over_three_channels(size):
    gray = noise(2, 24, 24, 1)
    prepare = Preprocessing(image_size=size)
    np.testing.assert_allclose(
        prepare(gray), prepare(np.repeat(gray, 3, axis=-1)), atol=1e-5
    )


def test_rgb_to_one_channel_is_pillows_luminance():
    images = noise(4, 64, 64, 3)
    prepare = Preprocessing(image_size=64, channels=1, mean=(0.0,), std=(1.0,))
    found = np.asarray(prepare(images))
    expected = np.stack([Image.fromarray(image).convert("L") for image in images])
    assert found.shape == (4, 64, 64, 1)
    np.testing.assert_array_equal(np.round(found[..., 0] * 255), expected)


def test_is_a_static_argument_of_a_jitted_step():
    traces = []

    def step(prepare, images):
        traces.append(1)
        return prepare(images)

    step = jax.jit(step, static_argnums=0)
    images = noise(2, 24, 24, 1)
    first = step(Preprocessing(image_size=32), images)
    again = step(Preprocessing(image_size=32), images)
    assert len(traces) == 1
    assert first.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"image_size": 8, "channels": 2}, "channels must be 1 or 3, got 2"),
        ({"image_size": 8, "channels": 1}, "mean needs one number for each of 1"),
        ({"image_size": 8, "std": (1.0, 0.0, 1.0)}, "std must be above 0, got 0"),
    ],
)
def test_bad_options_are_explained(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Preprocessing(**options)
