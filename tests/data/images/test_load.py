"""Many files: order, channels, sizes, and one sentence for all that are bad."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from jaxmed.data.images.load import read_images
from jaxmed.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(pixels, name):
        Image.fromarray(pixels).save(tmp_path / name)

    return save


def test_many_files_keep_their_order_and_their_splits(save, tmp_path):
    names = [f"{i:02d}.png" for i in range(30)]
    pixels = {name: noise(6, 7, seed=i) for i, name in enumerate(names)}
    for name in names:
        save(pixels[name], name)
    files = {"train": names[:20], "val": names[20:25], "test": names[25:]}
    found = read_images(tmp_path, files, where="here")
    assert list(found) == ["train", "val", "test"]
    for split, group in files.items():
        expected = np.stack([pixels[name] for name in group])[..., None]
        np.testing.assert_array_equal(found[split], expected)


def test_one_color_image_makes_all_of_them_rgb(save, tmp_path):
    gray, color = noise(6, 7), noise(6, 7, 3)
    save(gray, "a.png")
    save(color, "b.png")
    found = read_images(tmp_path, {"x": ["a.png"], "y": ["b.png"]}, where="here")
    np.testing.assert_array_equal(found["x"][0], np.stack([gray] * 3, -1))
    np.testing.assert_array_equal(found["y"][0], color)


def test_different_sizes_become_one_as_by_torchvision(save, tmp_path):
    sizes = {"a.png": (20, 30, 3), "b.png": (10, 12, 3), "c.png": (16, 16, 3)}
    for name, shape in sizes.items():
        save(noise(*shape), name)
    found = read_images(tmp_path, {"x": list(sizes)}, where="here", image_size=16)
    for image, shape in zip(found["x"], sizes.values(), strict=True):
        expected = v2.Resize((16, 16))(Image.fromarray(noise(*shape)))
        np.testing.assert_array_equal(image, np.asarray(expected))


def test_equal_sizes_are_changed_only_where_they_are_too_large(save, tmp_path):
    for name in ("a.png", "b.png"):
        save(noise(20, 30), name)
    for image_size, shape in ((None, (20, 30)), (64, (20, 30)), (24, (24, 24))):
        found = read_images(
            tmp_path, {"x": ["a.png", "b.png"]}, where="here", image_size=image_size
        )
        assert found["x"].shape == (2, *shape, 1)


def test_different_sizes_need_an_image_size(save, tmp_path):
    save(noise(20, 30), "a.png")
    save(noise(20, 31), "b.png")
    sentence = (
        r"here: the images have different sizes \(a.png is 30 x 20 pixels, b.png "
        r"31 x 20\)\. Give image_size"
    )
    with pytest.raises(InputError, match=sentence):
        read_images(tmp_path, {"x": ["a.png", "b.png"]}, where="here")


def test_all_bad_files_are_in_one_sentence(save, tmp_path):
    names = ["good.png"]
    save(noise(4, 4), "good.png")
    for i in range(12):
        names.append(f"bad{i:02d}.png")
        (tmp_path / names[-1]).write_bytes(b"")
    (tmp_path / names[2]).write_text("Dear colleague, the image is in the post.")
    (tmp_path / names[3]).unlink()
    with pytest.raises(InputError) as raised:
        read_images(tmp_path, {"x": names}, where="here")
    sentence = str(raised.value)
    assert sentence.startswith(
        "here: 12 of 13 images cannot be used: bad00.png (the file is empty), "
        "bad01.png (not one of JPEG, PNG, TIFF, BMP, WEBP, GIF, JPEG2000, PPM, or "
        "damaged, or a kind that Pillow does not read), "
        "bad02.png (No such file or directory), "
    )
    assert sentence.endswith(
        "bad09.png (the file is empty), and 2 more. Replace or remove them, or set "
        "on_error to skip."
    )


def test_progress_is_shown(save, tmp_path, capsys):
    save(noise(4, 4), "a.png")
    read_images(tmp_path, {"x": ["a.png"]}, where="folder:scans")
    assert "Decoding folder:scans 1/1" in capsys.readouterr().err
