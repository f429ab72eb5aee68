"""Decoding against Pillow, torchvision and pixels whose values are known."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from jaxmed.data.images import picture
from jaxmed.data.images.decode import decode, read_header
from jaxmed.data.images.picture import UnusableImage


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


def test_a_color_file_of_equal_channels_is_gray(save):
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
    path = save(pixels, "image.tiff", tiffinfo={picture.PHOTOMETRIC: 0})
    with Image.open(path) as image:
        stored = np.asarray(image)
        assert image.tag_v2[picture.PHOTOMETRIC] == 0
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


def test_colors_below_transparency_are_kept(save):
    pixels = noise(5, 6, 4)
    pixels[0, 0, 3] = 0
    np.testing.assert_array_equal(decode(save(pixels)), pixels[..., :3])


def test_a_palette_with_transparency_gives_its_colors_without_a_warning(save):
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
    monkeypatch.setattr(picture, "MOST_PIXELS", 63)
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


def exif_of(*entries):
    """EXIF of tags (number, type, four bytes)."""
    tags = b"".join(
        struct.pack("<HHI", n, kind, 1) + value for n, kind, value in entries
    )
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    return head + tags + struct.pack("<I", 0)


TURNED = (274, 3, struct.pack("<HH", 6, 0))
UNRELATED = {
    "resolution unit -1": (296, 9, struct.pack("<i", -1)),
    "unknown type": (296, 99, b"abcd"),
    "text of nothing": (305, 2, struct.pack("<I", 2**31)),
    "private tags nowhere": (34665, 4, struct.pack("<I", 2**31 - 1)),
    "place nowhere": (34853, 4, struct.pack("<I", 3)),
    "thumbnail nowhere": (513, 4, struct.pack("<I", 2**30)),
}


@pytest.mark.parametrize("ending", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("what", UNRELATED)
@pytest.mark.filterwarnings("ignore:::PIL")
def test_other_tags_do_not_decide_about_an_image(save, ending, what):
    exif = exif_of(TURNED, UNRELATED[what])
    path = save(noise(8, 32), f"image.{ending}", exif=exif)
    assert decode(path).shape[:2] == (32, 8)


@pytest.mark.parametrize("ending", ["jpeg", "png", "webp"])
@pytest.mark.filterwarnings("ignore:::PIL")
def test_tags_that_cannot_be_read_at_all_turn_nothing(save, ending):
    path = save(noise(8, 32), f"image.{ending}", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(path).shape[:2] == (8, 32)


def chunk(name, content, wrong_sum=0):
    total = zlib.crc32(name + content) ^ wrong_sum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", total)


CHUNKS = {
    "text that is too long": chunk(
        b"zTXt", b"comment\0\0" + zlib.compress(b"x" * 5_000_000)
    ),
    "color profile": chunk(b"iCCP", b"profile\0\0no profile"),
    "color profile of an unknown kind": chunk(b"iCCP", b"profile\0\7no profile"),
    "wrong sum": chunk(b"tEXt", b"a\0b", 1),
    "gamma of no length": chunk(b"gAMA", b""),
    "time": chunk(b"tIME", b"\0"),
    "resolution": chunk(b"pHYs", b"\0"),
}


@pytest.mark.parametrize("what", CHUNKS)
def test_a_png_is_read_whatever_stands_beside_its_pixels(save, what):
    pixels = noise(20, 30, 3)
    path = save(pixels)
    content = path.read_bytes()
    # Behind the signature and the header.
    path.write_bytes(content[:33] + CHUNKS[what] + content[33:])
    np.testing.assert_array_equal(decode(path), pixels)
    with path.open("rb") as file:
        assert read_header(file, path.name)[:3] == (30, 20, 3)


def test_a_text_that_is_too_long_does_not_lose_the_orientation(save):
    path = save(noise(8, 32), exif=exif_of(TURNED)[6:])
    content = path.read_bytes()
    added = CHUNKS["text that is too long"]
    path.write_bytes(content[:33] + added + content[33:])
    assert decode(path).shape[:2] == (32, 8)


@pytest.mark.parametrize("maxval", [255, 1023, 4095, 65535])
def test_a_pgm_is_scaled_by_its_own_maximum(tmp_path, maxval):
    values = np.linspace(0, maxval, 12).astype(">u2" if maxval > 255 else "u1")
    path = tmp_path / "image.pgm"
    path.write_bytes(f"P5 4 3 {maxval}\n".encode() + values.tobytes())
    expected = (values.astype(float) * 255 / maxval).reshape(3, 4)
    np.testing.assert_allclose(decode(path)[..., 0], expected, atol=1)
    assert decode(path).max() == 255


def test_16_bits_of_jpeg_2000(save):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30)).astype(np.uint16)
    found = decode(save(pixels, "image.jp2"))
    np.testing.assert_array_equal(found[..., 0], pixels >> 8)


def test_a_gif_of_one_frame_is_an_image(save):
    image = Image.fromarray(noise(5, 6, 3)).quantize(16)
    path = save(image, "image.gif")
    np.testing.assert_array_equal(decode(path), np.asarray(image.convert("RGB")))


def test_a_palette_of_8_bits_in_a_tiff_is_read_as_libtiff_reads_it(save):
    image = Image.fromarray(noise(5, 6, 3)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    path = save(image, "image.tiff")
    with Image.open(path) as stored:
        entries = stored.tag_v2[picture.COLOR_MAP]
    right = struct.pack(f"<{len(entries)}H", *entries)
    content = path.read_bytes()
    assert content.count(right) == 1
    narrow = struct.pack(f"<{len(entries)}H", *(entry >> 8 for entry in entries))
    path.write_bytes(content.replace(right, narrow))
    np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("kind", [1, 4])
@pytest.mark.parametrize("first", [True, False])
def test_a_tiff_with_a_thumbnail_or_a_mask_is_one_image(tmp_path, kind, first):
    image, small = Image.fromarray(noise(20, 30, 3)), Image.fromarray(noise(5, 6, 3))
    image.encoderinfo, small.encoderinfo = {}, {"tiffinfo": {picture.SUBFILE: kind}}
    pages = [image, small] if first else [small, image]
    path = tmp_path / "image.tiff"
    tags = pages[0].encoderinfo.get("tiffinfo", {})
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=tags)
    with Image.open(path) as stored:
        assert stored.n_frames == 2
    np.testing.assert_array_equal(decode(path), np.asarray(image))
