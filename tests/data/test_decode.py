"""Decoding against Pillow, torchvision and pixels whose values are known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from jaxmed.data import decode as module
from jaxmed.data.decode import UnusableImage, decode


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(pixels, name="image.png", **options):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.mark.parametrize("ending", ["png", "tiff", "bmp", "webp"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_lossless_formats_give_the_pixels_back(save, ending, shape):
    pixels = noise(*shape)
    options = {"lossless": True} if ending == "webp" else {}
    found = decode(save(pixels, f"image.{ending}", **options))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels.reshape(20, 30, -1))


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_jpeg_is_pillows(save, shape):
    path = save(noise(*shape), "image.jpeg", quality=80)
    with Image.open(path) as image:
        expected = np.asarray(image).reshape(40, 50, -1)
    np.testing.assert_array_equal(decode(path), expected)


def test_the_content_decides_the_format_and_not_the_ending(save, tmp_path):
    pixels = noise(9, 8)
    path = save(pixels).rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(decode(path)[..., 0], pixels)


def test_a_colour_file_of_equal_channels_is_grey(save):
    pixels = noise(20, 30, 1)
    found = decode(save(np.repeat(pixels, 3, axis=2)))
    np.testing.assert_array_equal(found, pixels)
    almost = np.repeat(pixels, 3, axis=2)
    almost[19, 29, 2] ^= 1
    np.testing.assert_array_equal(decode(save(almost)), almost)


@pytest.mark.parametrize(
    ("name", "options"),
    [("image.png", {}), ("image.tiff", {}), ("image.tiff", {"compression": "lzw"})],
)
def test_16_bits_are_scaled_as_torchvision_does(save, name, options):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30)).astype(np.uint16)
    expected = v2.functional.to_dtype(torch.from_numpy(pixels), torch.uint8, scale=True)
    found = decode(save(pixels, name, **options))
    np.testing.assert_array_equal(found[..., 0], expected.numpy())


def test_16_bits_are_not_stretched_to_an_images_own_extremes(save):
    dark = decode(save(np.full((4, 4), 0x1FFF, np.uint16)))
    assert (dark == 0x1F).all()


def test_a_tiff_of_16_bits_from_white_to_black_is_turned_round(save):
    pixels = np.array([[0, 2**16 - 1]], np.uint16)
    path = save(pixels, "image.tiff", tiffinfo={module.PHOTOMETRIC: 0})
    with Image.open(path) as image:
        stored = np.asarray(image)
        assert image.tag_v2[module.PHOTOMETRIC] == 0
    np.testing.assert_array_equal(decode(path)[..., 0], 255 - (stored >> 8))


def test_a_tiff_of_12_bits_uses_the_whole_range(save, tmp_path):
    # Pillow writes no such file: 8 bits, then the header and the pixels of 12.
    path = save(np.zeros((2, 3), np.uint8), "image.tiff")
    content = path.read_bytes()
    entry = (258).to_bytes(2, "little") + b"\x03\0\x01\0\0\0"
    assert content.count(entry + b"\x08\0") == 1
    content = content.replace(entry + b"\x08\0", entry + b"\x0c\0")
    with Image.open(path) as image:
        start = image.tag_v2[273][0]
    # Rows of three pixels: two in three bytes, one in two.
    rows = bytes.fromhex("000fff8000 100200fff0".replace(" ", ""))
    content = content[:start] + rows + content[start + 6 :]
    entry = (279).to_bytes(2, "little")
    at = content.index(entry + b"\x04\0") + 8
    content = content[:at] + (10).to_bytes(4, "little") + content[at + 4 :]
    path.write_bytes(content)
    expected = [[0x00, 0xFF, 0x80], [0x10, 0x20, 0xFF]]
    np.testing.assert_array_equal(decode(path)[..., 0], expected)


@pytest.mark.parametrize("ending", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(save, ending, orientation):
    # Corners of four levels, far enough apart to survive JPEG.
    upright = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24)))
    upright = upright.astype(np.uint8)
    # What the camera's sensor saw, by the definition of EXIF's tag 274.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    path = save(np.ascontiguousarray(stored), f"image.{ending}", exif=exif)
    found = decode(path)[..., 0].astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() < 12


def test_16_bits_are_turned_too(save):
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3) << 8
    exif = Image.Exif()
    exif[274] = 6
    found = decode(save(pixels, exif=exif))
    np.testing.assert_array_equal(found[..., 0], np.rot90(pixels >> 8, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_converted_as_pillow_does(save, mode):
    image = Image.fromarray(noise(20, 30, 3)).convert(mode)
    name = "image.tiff" if mode in ("CMYK", "YCbCr") else "image.png"
    path = save(image, name)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB"))
    found = np.broadcast_to(decode(path), (20, 30, 3))
    np.testing.assert_array_equal(found, expected)
    assert decode(path).shape[2] == (1 if mode in ("LA", "1") else 3)


def test_colours_below_transparency_are_kept(save):
    pixels = noise(5, 6, 4)
    pixels[0, 0, 3] = 0
    np.testing.assert_array_equal(decode(save(pixels)), pixels[..., :3])


def test_a_palette_with_transparency_gives_its_colours_without_a_warning(save):
    image = Image.fromarray(noise(5, 6, 3)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    path = save(image, transparency=bytes(range(16)))
    np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("shape", [(50, 70), (70, 50, 3), (33, 20, 3), (20, 33)])
def test_larger_images_are_resized_as_torchvision_does(save, shape):
    path = save(noise(*shape), "image.jpeg")
    with Image.open(path) as image:
        expected = np.asarray(v2.Resize((32, 32))(image)).reshape(32, 32, -1)
    np.testing.assert_array_equal(decode(path, 32), expected)


def test_images_no_larger_are_kept_as_they_are(save):
    pixels = noise(20, 32)
    np.testing.assert_array_equal(decode(save(pixels), 32)[..., 0], pixels)


def test_frames_pixels_and_ranges_that_cannot_be_used_are_named(save, monkeypatch):
    frame = Image.fromarray(noise(8, 8))
    other = Image.fromarray(noise(8, 8, seed=1))
    for name in ("image.tiff", "image.png", "image.webp"):
        path = save(frame, name, save_all=True, append_images=[other, frame])
        with pytest.raises(UnusableImage, match=r"^3 frames"):
            decode(path)
    for dtype in (np.int32, np.float32):
        with pytest.raises(UnusableImage, match="whose range is not known"):
            decode(save(np.zeros((4, 4), dtype), "image.tiff"))
    monkeypatch.setattr(module, "MOST_PIXELS", 63)
    with pytest.raises(UnusableImage, match=r"^more than 63 pixels$"):
        decode(save(frame))


def test_a_decompression_bomb_is_refused_before_it_is_decoded(save):
    # 400 million pixels, which Pillow itself refuses, in a few kilobytes.
    path = save(Image.new("1", (20_000, 20_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(UnusableImage, match=r"^more than 100,000,000 pixels$"):
        decode(path)


def test_a_cameras_jpeg_with_a_preview_is_its_first_picture(save, tmp_path):
    frame = Image.fromarray(noise(16, 16, 3))
    path = save(frame, "image.mpo", save_all=True, append_images=[frame.resize((8, 8))])
    with Image.open(path) as image:
        assert image.n_frames == 2
        expected = np.asarray(image)
    np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("ending", ["jpeg", "png", "tiff", "bmp", "webp"])
@pytest.mark.parametrize("keep", [0, 1, 10, 0.3, 0.7])
def test_a_cut_off_file_is_refused(save, ending, keep):
    path = save(noise(64, 64, 3), f"image.{ending}")
    content = path.read_bytes()
    size = int(len(content) * keep) if isinstance(keep, float) else keep
    path.write_bytes(content[:size])
    with pytest.raises(UnusableImage):
        decode(path)


@pytest.mark.parametrize("ending", ["jpeg", "png", "tiff", "bmp", "webp"])
@pytest.mark.filterwarnings("ignore:::PIL")
def test_flipped_bytes_raise_no_other_error(save, ending):
    path = save(noise(24, 24, 3), f"image.{ending}")
    content = path.read_bytes()
    refused = 0
    rng = np.random.default_rng(0)
    # Headers are where parsers stumble.
    for position in [*range(min(len(content), 150)), *rng.integers(150, 600, 50)]:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert decode(path).dtype == np.uint8
        except UnusableImage:
            refused += 1
    assert refused > 5
