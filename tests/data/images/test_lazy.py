"""Images in files against torchvision's loader, and the promises of an array."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from jaxmed.data.images.lazy import LazyImages, join_images
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.errors import InputError

SIZE = 16


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def open_lazily(root: Path, channels: int = 3, **changes) -> LazyImages:
    names = tuple(sorted(path.name for path in root.iterdir()))
    images = LazyImages(
        root=root,
        files=names,
        image_size=SIZE,
        resizing=SQUASH,
        channels=channels,
        digests=np.arange(len(names), dtype=np.uint64),
        scales=np.zeros(len(names), np.int8),
        source="folder:scans",
    )
    return replace(images, **changes)


@pytest.fixture
def root(tmp_path) -> Path:
    """Files of many sizes and modes, two that are gray and one that is smaller."""
    shapes = [(20, 30, 3), (16, 16, 3), (9, 7, 3), (40, 16), (16, 16), (64, 64, 3)]
    for i, shape in enumerate(shapes):
        name = f"{i}.png" if i % 2 else f"{i}.jpg"
        Image.fromarray(noise(*shape, seed=i)).save(tmp_path / name)
    Image.fromarray(noise(33, 20, 3)).quantize(32).save(tmp_path / "6.png")
    Image.fromarray(noise(33, 20, 4)).convert("CMYK").save(tmp_path / "7.jpg")
    return tmp_path


def expected(images: LazyImages) -> np.ndarray:
    resize = v2.Resize((SIZE, SIZE))
    loaded = [default_loader(str(images.root / name)) for name in images.files]
    return np.stack([np.asarray(resize(image)) for image in loaded])


@pytest.mark.parametrize("processors", [1, 3])
def test_pixels_are_those_of_torchvision(root, processors, monkeypatch):
    monkeypatch.setattr("jaxmed.data.images.lazy.count_processors", lambda: processors)
    images = open_lazily(root)
    found = images[np.arange(len(images))]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected(images))


@pytest.mark.parametrize(
    "key",
    [
        np.array([3, 0, 3]),
        np.array([-1, 2], np.int32),
        np.array([], int),
        np.array([[0, 1], [2, 3]]),
        np.arange(8) % 3 == 0,
        slice(1, 5, 2),
        slice(None),
        [2, 1],
        4,
        np.int64(-2),
    ],
)
def test_indices_mean_what_they_mean_to_an_array(root, key):
    images = open_lazily(root)
    whole = expected(images)
    found = images[key]
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, whole[key])


def test_what_is_asked_of_an_array_is_answered_without_decoding(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    images = open_lazily(tmp_path)
    like = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    for name in ("shape", "dtype", "ndim", "nbytes"):
        assert getattr(images, name) == getattr(like, name)
    assert len(images) == 3
    taken = images.take(np.array([2, 0]))
    assert (taken.files, taken.digests.tolist()) == (("2.png", "0.png"), [2, 0])
    joined = join_images([taken, images])
    assert isinstance(joined, LazyImages)
    assert joined.files == ("2.png", "0.png", "0.png", "1.png", "2.png")
    assert joined.digests.tolist() == [2, 0, 0, 1, 2]
    with pytest.raises(IndexError):
        images[3]


def test_a_pickled_copy_gives_the_same(root):
    images = open_lazily(root)
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy[1:4], images[1:4])


def test_files_that_are_all_gray_have_one_channel(tmp_path):
    for i in range(3):
        Image.fromarray(noise(20, 20, seed=i)).save(tmp_path / f"{i}.png")
    images = open_lazily(tmp_path, channels=1)
    assert images[:].shape == (3, SIZE, SIZE, 1)
    np.testing.assert_array_equal(images[:].repeat(3, axis=3), expected(images))
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png \(it has colors, and had none"):
        images[:]


def test_every_way_of_resizing_has_its_size(root):
    images = open_lazily(root, resizing=Resizing(mode="crop", factor=1.25))
    assert images[:3].shape == (3, 20, 20, 3) == (3, *images.shape[1:])


def test_it_does_not_become_an_array_by_accident(root):
    images = open_lazily(root)
    sentence = r"folder:scans: the 8 images are decoded when .* 6.14e-06 GB\. Take some"
    for make in (np.asarray, np.array, lambda x: np.concatenate([x, x])):
        with pytest.raises(InputError, match=sentence):
            make(images)


def test_all_files_of_a_batch_that_are_bad_are_named(root):
    images = open_lazily(root)
    (root / "5.png").write_bytes((root / "5.png").read_bytes()[:500])
    (root / "2.jpg").unlink()
    assert len(images[[0, 1]]) == 2
    sentence = (
        r"^folder:scans: images that cannot be used: 2\.jpg \(No such file or "
        r"directory\), 5\.png \(damaged or cut off: .*on-error skip"
    )
    with pytest.raises(InputError, match=sentence):
        images[:]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_images_seen(tmp_path):
    drawn = [tmp_path / f"drawn{i}.jpg" for i in range(4)]
    for i, path in enumerate(drawn):
        Image.fromarray(noise(64, 64, 3, seed=i)).save(path)
    for i in range(3000):
        os.link(drawn[i % 4], tmp_path / f"{i:04d}.jpg")
    images = open_lazily(tmp_path, image_size=64)

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    seen = []
    for start in range(0, 3000, 32):
        assert images[start : start + 32].shape[1:] == (64, 64, 3)
        seen.append(resident())
    # All of them would be 37 MB; the first batches warm up.
    assert images.nbytes > 36e6
    assert max(seen[10:]) - seen[10] < 4e6


def test_the_key_of_an_image_is_of_its_file_and_of_how_it_is_decoded(root):
    images = open_lazily(root)
    keys = images.keys
    assert len(set(keys)) == len(images)
    order = np.array([3, 1])
    assert images.take(order).keys == (keys[3], keys[1])
    assert not set(replace(images, image_size=SIZE + 1).keys) & set(keys)
    (root / images.files[0]).touch()
    (root / images.files[1]).unlink()
    now = images.keys
    assert now[2:] == keys[2:]
    assert not {*now[:2]} & {*keys[:2]}
