"""Gray values of more than 8 bits: what becomes black and white, and who decides it."""

import json
import struct
import zlib
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.images import picture
from jaxmed.data.images.decode import decode, read_gray, read_header
from jaxmed.data.images.lazy import LazyImages
from jaxmed.data.images.user_files import Decoding
from jaxmed.data.images.window import (
    FEW_LEVELS,
    STORED_BITS,
    Gray,
    Window,
    has_few_levels,
    parse_window,
    read_window,
)
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

MEMORY = pytest.mark.parametrize("memory", [9, 0], ids=["memory", "lazy"])


def scan(high, seed, side=40, low=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (side, side), endpoint=True).astype(np.uint16)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Writes the images of a folder with splits; returns its source."""
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))

    def save(name, highs, ending="png", low=0):
        for split, high in highs.items():
            for i, label in enumerate("aabb"):
                path = tmp_path / name / split / label / f"{split}{i}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(scan(high, i, low=low)).save(path)
        return f"folder:{tmp_path / name}"

    return save


def load(source, memory=9.0, **options):
    return load_dataset(source, image_size=40, memory_budget=memory, **options)


def expected(pixels, limits):
    low, high = limits
    return np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1))


TWELVE_BITS = {"train": 4095, "val": 4095, "test": 4095}
# All pixels of the training images are looked at, for they are few.
TRAIN_RANGE = pytest.approx(
    np.percentile([scan(4095, i) for i in range(4)], (0.1, 99.9)).tolist()
)


@MEMORY
@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_12_bits_in_files_of_16_keep_their_levels(save, memory, ending):
    data = load(save("scans", TWELVE_BITS, ending), memory)
    assert isinstance(data.train.images, LazyImages) == (memory == 0)
    assert data.window.limits == TRAIN_RANGE
    for i, image in enumerate(data.test.images[:]):
        np.testing.assert_array_equal(
            image[..., 0], expected(scan(4095, i), data.window.limits)
        )
        assert len(np.unique(image)) > 200


@MEMORY
def test_the_range_is_of_training_images_alone(save, memory):
    source = save("scans", {"train": 600, "val": 60_000, "test": 40_000})
    data = load(source, memory)
    assert data.window.limits == pytest.approx((0, 600), abs=2)
    # And of nothing else, whatever the other splits hold.
    other = load(save("others", {"train": 600, "val": 300, "test": 500}), memory)
    assert other.window == data.window


@pytest.mark.parametrize("fold", range(3))
def test_a_split_made_anew_decides_which_are_training_images(save, tmp_path, fold):
    save("scans", {"x": 600, "y": 3000})
    for path in (tmp_path / "scans").glob("*/*/*.png"):
        target = tmp_path / "pooled" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    splitting = Splitting(split="stratified", folds=4, fold=fold)
    data = load(f"folder:{tmp_path / 'pooled'}", splitting=splitting)
    pixels = [np.asarray(Image.open(tmp_path / "pooled" / i)) for i in data.train.ids]
    assert data.window.limits == pytest.approx(
        np.percentile(np.stack(pixels), (0.1, 99.9)).tolist()
    )


@MEMORY
def test_images_that_use_their_bits_are_shown_by_them(save, memory):
    source = save("scans", {"train": 50_000, "val": 600, "test": 600})
    data = load(source, memory)
    assert data.window == STORED_BITS
    np.testing.assert_array_equal(data.train.images[0][..., 0], scan(50_000, 0) >> 8)


@MEMORY
def test_settings(save, memory):
    source = save("scans", TWELVE_BITS)
    full = load(source, memory, window="full")
    np.testing.assert_array_equal(full.test.images[1][..., 0], scan(4095, 1) >> 8)
    given = load(source, memory, window="1000,801")
    assert given.window.limits == (599.5, 1399.5)
    np.testing.assert_array_equal(
        given.test.images[1][..., 0], expected(scan(4095, 1), (599.5, 1399.5))
    )
    narrow = load(source, memory, window="percentile:10,90")
    pixels = np.stack([scan(4095, i) for i in range(4)])
    assert narrow.window.limits == pytest.approx(np.percentile(pixels, (10, 90)))
    if memory == 0:
        prints = {data.fingerprint for data in (full, given, narrow)}
        assert len(prints) == 3


def test_pictures_of_8_bits_need_none_and_are_left_alone(save, tmp_path):
    for split in ("train", "val", "test"):
        for label in "ab":
            path = tmp_path / "photos" / split / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(scan(20, 0).astype(np.uint8)).save(path)
    source = f"folder:{tmp_path / 'photos'}"
    assert load(source).window == load(source, 0).window == STORED_BITS
    for memory, window in product((9, 0), ("percentile:1,99", "40,400", "full")):
        with pytest.raises(InputError, match="have 8 bits, which need no window"):
            load(source, memory, window=window)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((2, 4, 4), np.uint8)
        arrays[f"{split}_labels"] = np.arange(2)
    np.savez(tmp_path / "any.npz", **arrays)
    with pytest.raises(InputError, match="have 8 bits, which need no window"):
        load_dataset(f"npz:{tmp_path / 'any.npz'}", window="full")


def test_mixed_sets_change_only_what_has_more_bits(save, tmp_path):
    source = save("scans", TWELVE_BITS)
    photo = scan(255, 9).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "scans" / "test" / "a" / "photo.png")
    for memory in (9, 0):
        data = load(source, memory)
        row = data.test.ids.index("test/a/photo.png")
        np.testing.assert_array_equal(data.test.images[row][..., 0], photo)


@MEMORY
def test_bad_files_are_left_out_before_a_range_is_found(save, tmp_path, memory):
    source = save("scans", TWELVE_BITS)
    path = tmp_path / "scans" / "train" / "a" / "bad.png"
    content = (tmp_path / "scans" / "train" / "a" / "train0.png").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    data = load(source, memory, on_error="skip")
    assert list(data.skipped) == ["train/a/bad.png"]
    assert data.window.limits == TRAIN_RANGE
    assert len(data.train) == 4


@MEMORY
def test_values_of_unknown_range_are_read_where_a_range_is_given(
    save, tmp_path, memory
):
    source = save("scans", TWELVE_BITS)
    path = tmp_path / "scans" / "train" / "a" / "float.tiff"
    values = scan(4095, 7).astype(np.float32) - 1000
    values[0, 0] = np.nan
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match=r"float\.tiff .*set data\.window to percent"):
        load(source, memory)
    data = load(source, memory, window="500,1001")
    found = data.train.images[data.train.ids.index("train/a/float.tiff")][..., 0]
    right = expected(values, (-0.5, 999.5))
    right[0, 0] = 0
    np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("window", ["auto", "percentile:5,95", "1000,801", "full"])
def test_new_images_are_decoded_with_the_range_of_the_run(save, tmp_path, window):
    data = load(save("scans", TWELVE_BITS), window=window)
    stored = json.loads(json.dumps(asdict(data.window)))
    decoding = Decoding(image_size=40, window=read_window(stored))
    for name, image in zip(data.test.ids, data.test.images, strict=True):
        np.testing.assert_array_equal(decoding(tmp_path / "scans" / name), image)


def test_without_a_size_images_of_one_size_are_kept(save):
    data = load_dataset(save("scans", TWELVE_BITS))
    assert data.train.images.shape == (4, 40, 40, 1)
    assert data.window.limits == TRAIN_RANGE


def test_constant_images_have_no_range(save):
    source = save("scans", dict.fromkeys(TWELVE_BITS, 300), low=300)
    assert load(source).window == STORED_BITS
    with pytest.raises(InputError, match=r"percentiles .* are both 300"):
        load(source, window="percentile:1,99")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("lung", 'must be auto, full, "percentile:LOW,HIGH"'),
        ("40", "must be auto"),
        ("40,400,1", "must be auto"),
        ("40,nan", "must be auto"),
        ("40,1", "width must be above 1"),
        ("percentile:99,1", "from 0 to 100, the lower one first"),
        ("percentile:-1,99", "from 0 to 100"),
        ("percentile:5", "two numbers"),
    ],
)
def test_wrong_settings_are_sentences(setting, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_window(setting)


def test_padding_is_black_also_where_high_is_dark():
    values = np.array([[0, 10, 20]])
    gray = Gray(values, (0, 20), inverted=True, padding=values == 0)
    assert STORED_BITS.show(gray).tolist() == [[0, 127, 0]]
    shown = Window(setting="x", limits=(10.0, 20.0)).show(gray)
    assert shown.tolist() == [[0, 255, 0]]


def test_few_levels():
    ramp = np.arange(1600).reshape(40, 40, 1)
    assert has_few_levels((ramp % (FEW_LEVELS - 1)).astype(np.uint8))
    assert not has_few_levels((ramp % FEW_LEVELS).astype(np.uint8))
    # Of so few pixels it cannot be said.
    assert not has_few_levels(np.zeros((8, 8, 1), np.uint8))


def test_decoding_one_file_keeps_to_its_stored_bits(tmp_path):
    Image.fromarray(scan(4095, 0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "a.png")[..., 0], scan(4095, 0) >> 8
    )


def write_deep(path, values):
    """Writes a PNG of 16 bits: of colors by OpenCV, gray and opaque by hand."""
    if values.ndim == 3:
        cv2 = pytest.importorskip("cv2")
        # It begins with blue.
        assert cv2.imwrite(str(path), values[..., [2, 1, 0, 3][: values.shape[2]]])
        return
    high, width = values.shape
    pairs = np.stack([values, np.full_like(values, 65535)], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pairs)
    header = struct.pack(">IIBBBBB", width, high, 16, 4, 0, 0, 0)
    with path.open("wb") as file:
        file.write(picture.PNG_SIGNATURE)
        for name, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ):
            file.write(struct.pack(">I", len(data)) + name + data)
            file.write(struct.pack(">I", zlib.crc32(name + data)))


@pytest.mark.parametrize(
    ("colors", "ending"), [(0, "png"), (3, "png"), (4, "png"), (3, "tiff"), (4, "tiff")]
)
def test_16_bits_per_color_are_read_whole(tmp_path, colors, ending):
    """Pillow reads the upper 8: of 12 bits in 16 those have 16 levels."""
    shape = (40, 40, colors) if colors else (40, 40)
    values = np.random.default_rng(0).integers(0, 4096, shape, np.uint16)
    path = tmp_path / f"scan.{ending}"
    write_deep(path, values)
    values = values[..., :3] if colors else values
    gray = read_gray(path, STORED_BITS)
    with path.open("rb") as file:
        header = read_header(file, path.name)
    assert (header.channels, header.scale) == (3 if colors else 1, picture.STORED_SCALE)
    np.testing.assert_array_equal(gray.values, values)
    assert gray.full == (0, 65535)
    shown = decode(path, window=Window(limits=(0.0, 4095.0)))
    np.testing.assert_array_equal(
        shown, expected(values, (0, 4095)).reshape(shown.shape)
    )
    np.testing.assert_array_equal(decode(path), (values >> 8).reshape(shown.shape))


@MEMORY
def test_12_bits_per_color_in_files_of_16_keep_their_levels(save, memory, tmp_path):
    source = save("scans", TWELVE_BITS)
    for path in (tmp_path / "scans").rglob("*.png"):
        write_deep(path, np.asarray(Image.open(path))[..., None].repeat(3, axis=2))
    data = load(source, memory)
    colors = np.repeat([scan(4095, i) for i in range(4)], 3)
    assert data.window.limits == tuple(np.percentile(colors, (0.1, 99.9)))
    assert len(np.unique(data.test.images[:][0])) > 200
