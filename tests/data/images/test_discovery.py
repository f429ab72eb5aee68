"""Which files of a folder are images: by their content, and one rule for all."""

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.images.user_files import find_user_files
from jaxmed.data.sources.registry import load_dataset
from jaxmed.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
# Endings, and the formats in which Pillow writes them.
WRITTEN = {
    "x.jfif": "JPEG",
    "x.jpe": "JPEG",
    "x.JPG": "JPEG",
    "x.ppm": "PPM",
    "x.pgm": "PPM",
    "x.pnm": "PPM",
    "x.gif": "GIF",
    "x.jp2": "JPEG2000",
    "x": "PNG",
    "1.2.840.113619.2": "TIFF",
    "x.image": "WEBP",
    "x.png": "JPEG",
}
NO_IMAGES = {
    "notes.txt": b"Dear colleague",
    "labels.csv": b"path,label\n",
    "volume.nii.gz": b"\x1f\x8b\x08\0\0\0",
    "empty": b"",
    "letter.pdf": b"%PDF-1.7",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    for split in ("train", "val", "test"):
        for label in "ab":
            write(tmp_path / "set" / split / label / "0.png")
    return tmp_path / "set"


def write(path, format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(PIXELS)
    if path.suffix == ".pgm":
        image = image.convert("L")
    image.save(path, format or "PNG")


def load(root, **options):
    return load_dataset(f"folder:{root}", image_size=16, **options)


def predicted(folder):
    """What `predict` would read, and what it would leave out."""
    left_out = {}
    found = find_user_files([str(folder)], left_out)
    return [one.name for one in found], left_out


@pytest.mark.parametrize("memory", [9, 0])
def test_training_and_prediction_read_the_same_files(root, memory):
    for name, format in WRITTEN.items():
        write(root / "train" / "a" / name, format)
    for name, content in NO_IMAGES.items():
        (root / "train" / "a" / name).write_bytes(content)
    data = load(root, memory_budget=memory)
    images = {f"train/a/{name}" for name in [*WRITTEN, "0.png"]}
    assert {name for name in data.train.ids if "/a/" in name} == images
    assert set(data.skipped) == {f"train/a/{name}" for name in NO_IMAGES}
    assert data.train.images[:].shape == (len(images) + 1, 16, 16, 3)
    found, left_out = predicted(root / "train")
    assert {name.removeprefix(f"{root}/") for name in found} == set(data.train.ids)
    assert left_out.values() == data.skipped.values() or set(left_out) == {
        f"{root}/{name}" for name in data.skipped
    }


def test_what_is_named_like_an_image_and_is_none_is_an_error(root):
    (root / "train" / "a" / "x.gif").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 7 images cannot be used: train/a/x\.g"):
        load(root)


@pytest.mark.parametrize("ending", ["gif", "tiff", "webp", "png"])
def test_several_frames_are_refused_with_what_to_do(root, ending):
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    path = root / "train" / "a" / f"film.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"2 frames, and an image is one; save the fr"):
        load(root)


def test_masks_beside_images_are_no_images(root):
    for split in ("train", "val", "test"):
        for label in "ab":
            (root / split / label / "0.png").unlink()
            for part in ("images", "masks"):
                write(root / split / label / part / "0.png")
    data = load(root)
    assert data.train.ids == ("train/a/images/0.png", "train/b/images/0.png")
    assert len(data.skipped) == 6
    assert "a folder of masks" in data.skipped["train/a/masks"]
    found, left_out = predicted(root / "test")
    assert [name.removeprefix(f"{root}/") for name in found] == list(data.test.ids)
    assert set(left_out) == {f"{root}/test/{label}/masks" for label in "ab"}


def test_masks_by_the_names_of_files_are_no_images(root):
    folder = root / "train" / "a"
    names = ["benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"]
    for name in [*names, "lonely_mask.png", "x_segmentation.png"]:
        write(folder / name)
    data = load(root)
    kept = ["0.png", "benign (1).png", "lonely_mask.png", "x_segmentation.png"]
    assert [name for name in data.train.ids if "/a/" in name] == [
        f"train/a/{name}" for name in kept
    ]
    assert set(data.skipped) == {f"train/a/{name}" for name in names[1:]}


def test_a_class_of_masks_alone_is_a_class(root):
    for split in ("train", "val", "test"):
        write(root / split / "a" / "masks" / "1.png")
        (root / split / "a" / "0.png").unlink()
    assert load(root).train.ids == ("train/a/masks/1.png", "train/b/0.png")


def test_images_in_no_class_are_named(root):
    write(root / "train" / "lost.png")
    assert load(root).skipped == {"train/lost.png": "in the folder of no class"}
