"""Files that a user names: which they are, and that they look as in training."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.images.resizing import Resizing
from jaxmed.data.images.user_files import (
    AHEAD,
    Decoding,
    UserFile,
    decode_ahead,
    find_user_files,
)
from jaxmed.data.sources.registry import load_dataset

RNG = np.random.default_rng(0)


def save(path, size, gray=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if gray else (*size, 3)
    Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(path)
    return path


@pytest.fixture
def scans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a/2.PNG", "a/10.jpg", ".hidden.png", "c.txt"):
        path = Path("scans", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Path("scans", "empty").mkdir()
    return Path("scans")


def names(*words):
    return [one.name for one in find_user_files(words, {})]


def test_files_and_folders_are_found_in_the_order_given(scans):
    below = ["scans/a/10.jpg", "scans/a/2.PNG", "scans/b.png"]
    assert names("scans") == names("scans/") == below
    assert names("scans/b.png", "scans", "x.tif") == ["scans/b.png", *below, "x.tif"]
    # A file that is named is tried, whatever it is called.
    assert names("scans/c.txt") == ["scans/c.txt"]


def test_patterns_are_carried_out_where_the_shell_has_not(scans):
    assert names("scans/*.png") == ["scans/b.png"]
    assert names("scans/a/?.*") == ["scans/a/2.PNG"]
    below = ["scans/a/10.jpg", "scans/a/2.PNG", "scans/b.png"]
    assert names("scans/**") == names("scans/*") == below
    (scans / "[1].png").touch()
    assert names("scans/[1].png") == ["scans/[1].png"]


@pytest.mark.parametrize("word", ["scans/*.bmp", "scans/empty"])
def test_what_names_no_image_is_said_in_its_place(scans, word):
    before, found, after = find_user_files(["scans/b.png", word, "scans/a/2.PNG"], {})
    assert (before.name, after.name) == ("scans/b.png", "scans/a/2.PNG")
    assert found.name == word
    assert "no image file" in found.reason


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
@pytest.mark.parametrize(
    "sizes",
    [
        [(40, 50), (20, 20), (32, 32), (37, 37)],
        [(20, 24)] * 3,
        [(70, 50)] * 3,
        [(32, 32)] * 3,
    ],
    ids=["mixed", "small", "large", "right"],
)
@pytest.mark.parametrize("memory", [None, 0.0], ids=["memory", "lazy"])
def test_images_are_decoded_as_in_training(tmp_path, mode, sizes, memory):
    for split in ("train", "val", "test"):
        for label in "ab":
            for i, size in enumerate(sizes):
                save(tmp_path / split / label / f"{i}.png", size, gray=i == 2)
    resizing = Resizing(mode=mode)
    data = load_dataset(
        f"folder:{tmp_path}",
        image_size=32,
        resizing=resizing,
        memory_budget=memory,
        cache=tmp_path / "cache",
    )
    shape = data.train.images.shape[1:3]
    decoding = Decoding(image_size=32, resizing=resizing, image_shape=shape)
    for name, image in zip(data.test.ids, data.test.images[:], strict=True):
        found = decoding(tmp_path / name)
        np.testing.assert_array_equal(np.broadcast_to(found, image.shape), image)


def test_dicom_is_known_by_its_content_too(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.examples import get_path

    from jaxmed.data.images.decode import decode

    del pydicom
    path = get_path("ct")
    (tmp_path / "IM0001").write_bytes(Path(path).read_bytes())
    (tmp_path / "README").write_text("no image")
    # So it is one of those below a folder, and of those that a pattern matches.
    found = [f"{tmp_path}/IM0001"]
    assert names(str(tmp_path)) == names(f"{tmp_path}/*") == found
    found = Decoding(image_size=64)(tmp_path / "IM0001")
    np.testing.assert_array_equal(found, decode(Path(path), 64))


def test_batches_come_in_order_and_bad_files_do_not_stop_them(tmp_path):
    good = [str(save(tmp_path / f"{i}.png", (9, 9))) for i in range(5)]
    (tmp_path / "bad.png").write_bytes(b"no image")
    given = find_user_files(
        [*good[:3], str(tmp_path / "bad.png"), *good[3:], "gone.png"], {}
    )
    batches = [*decode_ahead(given, Decoding(image_size=8), 3)]
    assert [len(batch) for batch in batches] == [3, 3, 1]
    found = [one for batch in batches for one in batch]
    assert [one.name for one in found] == [one.name for one in given]
    reasons = [one.reason for one in found]
    assert "damaged" in reasons[3]
    assert reasons[6] == "No such file or directory"
    assert reasons[:3] + reasons[4:6] == [None] * 5
    assert all(one.pixels.shape[:2] == (8, 8) for one in found if not one.reason)


class Watched(Decoding):
    """Keeps track of the images that are in memory."""

    def __call__(self, path):
        pixels = np.zeros((4, 4, 1), np.uint8)
        weakref.finalize(pixels, LIVE.discard, int(path.name))
        LIVE.add(int(path.name))
        return pixels


LIVE: set[int] = set()


def test_memory_does_not_grow_with_the_number_of_files():
    given = [UserFile(str(i)) for i in range(400)]
    most = 0
    for batch in decode_ahead(given, Watched(image_size=4), 10):
        most = max(most, len(LIVE))
        del batch
    gc.collect()
    assert 10 <= most <= 10 * (AHEAD + 2)
