"""Colors and stains against torchvision and scikit-image, at fixed parameters."""

import jax
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from jaxmed.data.transforms.color import ColorJitter, Jitter, Stain, StainJitter
from jaxmed.errors import InputError

ALL = ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)


def picture(channels=3):
    rng = np.random.default_rng(channels)
    image = rng.integers(0, 256, (16, 17, channels)).astype(np.float32)
    image[:4] = image[:4, :, :1]  # gray, where the hue is not defined
    image[0, :2] = [[0] * channels, [255] * channels]
    return image


def jitter_of(*, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    numbers = (brightness, contrast, saturation, hue)
    return Jitter(*(np.float32(number) for number in numbers))


def to_torch(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def assert_is_torchvisions(found, image, change):
    """On floats up to rounding; on bytes within the two levels that rounding gives."""
    floats = change(to_torch(image / 255)).permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(found, floats, rtol=0, atol=0.01)
    whole = change(to_torch(image).to(torch.uint8)).permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(found) - whole).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.5])
def test_factors_do_what_torchvisions_do(factor, channels):
    image = picture(channels)
    for name in ("brightness", "contrast", "saturation"):
        op = ColorJitter(**{name: 1.0})
        found = op.apply(image, jitter_of(**{name: factor}))
        adjust = getattr(F, f"adjust_{name}")
        assert_is_torchvisions(found, image, lambda x, f=adjust: f(x, factor))


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.05, 0.3])
def test_the_hue_turns_as_torchvisions(shift):
    image = picture()
    found = ColorJitter(hue=0.5).apply(image, jitter_of(hue=shift))
    floats = F.adjust_hue(to_torch(image / 255), shift).permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(found, floats, rtol=0, atol=0.01)


def test_a_jitter_is_torchvisions_in_this_order():
    image = picture()
    jitter = jitter_of(brightness=1.2, contrast=0.8, saturation=1.3, hue=0.1)

    def change(tensor):
        tensor = F.adjust_contrast(F.adjust_brightness(tensor, 1.2), 0.8)
        return F.adjust_hue(F.adjust_saturation(tensor, 1.3), 0.1)

    floats = change(to_torch(image / 255)).permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(ALL.apply(image, jitter), floats, rtol=0, atol=0.01)


def test_gray_images_have_brightness_and_contrast_alone():
    image = picture(1)
    colored = jitter_of(saturation=0.1, hue=0.4)
    np.testing.assert_array_equal(ALL.apply(image, colored), image)
    stain = Stain(np.full(3, 1.2, np.float32), np.full(3, 0.1, np.float32))
    np.testing.assert_array_equal(StainJitter().apply(image, stain), image)


def test_stains_are_those_of_scikit_image():
    """Its amounts are ours but for the base of the logarithm."""
    color = pytest.importorskip("skimage.color")
    from jaxmed.data.transforms.color import STAINS

    np.testing.assert_allclose(STAINS, color.rgb_from_hed, rtol=0, atol=1e-12)
    rng = np.random.default_rng(0)
    # Colors that two stains can make, so that nothing is cut off on the way.
    amounts = rng.uniform(0.1, 0.8, (12, 12, 3)) * [1, 1, 0.2]
    light = np.exp(-amounts @ color.rgb_from_hed)
    factor, offset = np.array([1.1, 0.9, 1.05]), np.array([0.02, -0.03, 0.01])
    base = -np.log(1e-6)
    hed = color.separate_stains(light, color.hed_from_rgb) * base
    np.testing.assert_allclose(hed, amounts, atol=1e-9)
    mixed = color.combine_stains(
        (hed * factor + offset) / base, np.asarray(color.rgb_from_hed)
    )
    image = (256 * light - 1).astype(np.float32)
    stain = Stain(factor.astype(np.float32), offset.astype(np.float32))
    found = StainJitter().apply(image, stain)
    np.testing.assert_allclose(found, 256 * mixed - 1, rtol=0, atol=0.01)


def test_a_stain_jitter_of_nothing_leaves_the_image():
    image = picture()
    same = Stain(np.ones(3, np.float32), np.zeros(3, np.float32))
    np.testing.assert_allclose(StainJitter().apply(image, same), image, atol=0.01)


def test_parameters_are_drawn_as_far_as_they_say():
    keys = jax.random.split(jax.random.key(2), 2000)
    op = ColorJitter(brightness=0.2, contrast=1.5, hue=0.1)
    drawn = jax.vmap(lambda key: op.draw(key, 4, 4))(keys)
    for values, low, high in (
        (drawn.brightness, 0.8, 1.2),
        (drawn.contrast, 0.0, 2.5),
        (drawn.hue, -0.1, 0.1),
    ):
        span = high - low
        assert low <= values.min() < low + 0.01 * span
        assert high - 0.01 * span < values.max() <= high
    assert set(np.asarray(drawn.saturation)) == {1.0}
    stain = jax.vmap(lambda key: StainJitter(sigma=0.3).draw(key, 4, 4))(keys)
    assert stain.factor.shape == stain.offset.shape == (2000, 3)
    assert abs(stain.factor - 1).max() <= 0.3 + 1e-6
    assert 0.29 < abs(stain.offset).max() <= 0.3
    assert abs(np.corrcoef(np.asarray(stain.factor).T)[0, 1]) < 0.12


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ColorJitter(brightness=-0.1), "brightness must be at least 0"),
        (lambda: ColorJitter(hue=0.6), "hue must be in"),
        (lambda: StainJitter(sigma=2.0), "sigma must be in"),
    ],
)
def test_what_cannot_be_is_said(build, words):
    with pytest.raises(InputError, match=words):
        build()
