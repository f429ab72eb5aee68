"""`folder:PATH` on good folders, and a sentence for every way one can be bad."""

import os
import shutil
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError


def draw(path, *, seed=0, shape=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def root(tmp_path):
    """Two classes, each with two images in train and one in val and in test."""
    root = tmp_path / "scans"
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for label, name in enumerate(("NORMAL", "PNEUMONIA")):
            for i in range(count):
                draw(
                    root / split / name / f"{name.lower()}-{i}.png", seed=10 * label + i
                )
    return root


def load(root, **options):
    return load_dataset(f"folder:{root}", **options)


def test_images_labels_and_ids(root):
    data = load(root)
    assert (data.name, data.source, data.task) == ("scans", f"folder:{root}", "binary")
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.image_size == 12
    assert data.train.ids == (
        "train/NORMAL/normal-0.png",
        "train/NORMAL/normal-1.png",
        "train/PNEUMONIA/pneumonia-0.png",
        "train/PNEUMONIA/pneumonia-1.png",
    )
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.labels.dtype == np.int32
    assert data.train.images.shape == (4, 12, 10, 1)
    for image, name in zip(data.train.images, data.train.ids, strict=True):
        np.testing.assert_array_equal(image[..., 0], Image.open(root / name))
    assert data.test.ids == (
        "test/NORMAL/normal-0.png",
        "test/PNEUMONIA/pneumonia-0.png",
    )


def test_classes_and_files_are_those_of_torchvision(root):
    for split in ("train", "val", "test"):
        draw(root / split / "aspergillosis" / "deeper" / "x.JPG", seed=5)
        draw(root / split / "COVID" / "y.tif", seed=6)
    data = load(root)
    assert data.task == "multiclass"
    for split in ("train", "val", "test"):
        theirs = ImageFolder(root / split)
        assert data.class_names == tuple(theirs.classes)
        ours = getattr(data, split)
        expected = dict(theirs.samples)
        found = [str(root / name) for name in ours.ids]
        assert dict(zip(found, ours.labels.tolist(), strict=True)) == expected
        assert list(ours.ids) == sorted(ours.ids)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_val(root, name):
    (root / "val").rename(root / name)
    assert load(root).val.ids[0] == f"{name}/NORMAL/normal-0.png"


def test_hidden_and_other_files_are_ignored(root):
    before = load(root).fingerprint
    for name in (".DS_Store", "notes.txt", ".hidden.png", "Thumbs.db", "._x.png"):
        for folder in (root, root / "train", root / "train" / "NORMAL"):
            (folder / name).write_bytes(b"\0")
    for folder in (root, root / "train", root / "train" / "NORMAL"):
        draw(folder / ".cache" / "x.png")
        draw(folder / "__MACOSX" / "x.png")
    data = load(root)
    assert data.fingerprint == before
    # Of what is in a class's folder, what nobody put there is not told.
    assert data.skipped == {"train/NORMAL/notes.txt": "no image by its name or content"}


def test_names_in_other_alphabets(root):
    for split in ("train", "val", "test"):
        (root / split / "NORMAL").rename(root / split / "здоровые")
        draw(root / split / "здоровые" / "снимок № 1 肺.png")
    data = load(root)
    assert data.class_names == ("PNEUMONIA", "здоровые")
    assert "val/здоровые/снимок № 1 肺.png" in data.val.ids
    assert len(data.fingerprint) == 64


def test_the_fingerprint_does_not_depend_on_where_the_folder_is(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    assert load(root).fingerprint == load(tmp_path / "copy").fingerprint


def test_image_size_goes_to_the_network_and_bounds_what_is_held(root):
    small, large = load(root, image_size=8), load(root, image_size=64)
    assert (small.image_size, small.train.images.shape[1:3]) == (8, (8, 8))
    assert (large.image_size, large.train.images.shape[1:3]) == (64, (12, 10))


def test_links_to_class_folders_are_followed(root, tmp_path):
    moved = (root / "train" / "NORMAL").rename(tmp_path / "elsewhere")
    (root / "train" / "NORMAL").symlink_to(moved, target_is_directory=True)
    assert load(root).train.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("target", [".", "..", "../../../.."])
def test_a_link_that_leads_back_is_explained(root, target):
    (root / "train" / "NORMAL" / "more").symlink_to(target)
    with pytest.raises(InputError, match=r"more \(a link to a folder that it lies in"):
        load(root)


def test_two_links_that_lead_to_each_other_are_explained(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (root / "train" / "NORMAL" / "more").symlink_to(other)
    (other / "back").symlink_to(root / "train" / "NORMAL")
    with pytest.raises(InputError, match=r"more/back \(a link to a folder that it"):
        load(root)


def test_links_without_an_end_and_lost_files_are_named(root):
    folder = root / "val" / "NORMAL"
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "lost.png").symlink_to("nowhere.png")
    sentence = (
        r"folder:.*2 of 10 images cannot be used: val/NORMAL/loop.png \(Too many "
        r"levels of symbolic links\), val/NORMAL/lost.png \(No such file"
    )
    with pytest.raises(InputError, match=sentence):
        load(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(root):
    path = root / "val" / "NORMAL"
    (path / "normal-0.png").chmod(0)
    with pytest.raises(InputError, match=r"normal-0.png \(Permission denied\)"):
        load(root)
    path.chmod(0)
    try:
        with pytest.raises(InputError, match=r"NORMAL \(a folder that cannot be"):
            load(root)
    finally:
        path.chmod(0o700)


def test_a_name_that_is_no_text_is_named(root):
    path = os.fsencode(root / "val" / "NORMAL") + b"/\xff.png"
    shutil.copy(root / "val" / "NORMAL" / "normal-0.png", path)
    with pytest.raises(InputError, match=r"udcff.png \(its name is not UTF-8\)"):
        load(root)


def remove(*parts):
    return lambda root: shutil.rmtree(root.joinpath(*parts))


def empty(*parts):
    def edit(root):
        for path in root.joinpath(*parts).rglob("*.png"):
            path.unlink()

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            remove("train"),
            "has no folder 'train'; its folders are test, val. Expected ",
        ),
        (remove("test"), r"scans has train and val, and no test\. Set split to"),
        (remove("val"), r"has train and test, and no val\. .* keep_test to true"),
        (
            lambda root: shutil.copytree(root / "val", root / "valid"),
            "has the folders 'val' and 'valid', which mean the same",
        ),
        (remove("train", "PNEUMONIA"), "scans/train has no images of PNEUMONIA"),
        (empty("val"), "scans/val has no images in its class folders .*ending in .jpg"),
        (empty("train", "NORMAL"), "scans/train has no images of NORMAL"),
        (
            lambda root: [remove(split, "NORMAL")(root) for split in os.listdir(root)],
            "at least two classes are needed, .* found are PNEUMONIA",
        ),
        (remove(), "scans does not exist"),
    ],
)
def test_bad_folder_is_explained(root, edit, sentence):
    edit(root)
    with pytest.raises(InputError, match=sentence):
        load(root)


def test_a_folder_without_splits_is_split_as_told(root):
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        for i in range(10):
            path = root.parent / "flat" / name / f"p{i // 2 + 5 * label}-{i}.png"
            draw(path, seed=i + 10 * label)
    flat = root.parent / "flat"
    splitting = Splitting(
        split="patient",
        group_pattern=r"(p\d)-",
        val_share=0.2,
    )
    data = load(flat, splitting=splitting)
    parts = (data.train, data.val, data.test)
    assert [len(part) for part in parts] == [12, 4, 4]
    for part in parts:
        assert np.bincount(part.labels).tolist() == [len(part) // 2] * 2
        assert part.groups == tuple(name.split("/")[1][:2] for name in part.ids)
        for image, name in zip(part.images, part.ids, strict=True):
            np.testing.assert_array_equal(image[..., 0], Image.open(flat / name))
    with pytest.raises(InputError, match="has no train, val and test, so the split"):
        load(flat)
    shutil.rmtree(flat / "NORMAL")
    with pytest.raises(InputError, match="flat: at least two classes are needed"):
        load(flat)


def test_a_class_may_lack_images_in_val_and_test(root):
    empty("val", "NORMAL")(root)
    assert load(root).val.labels.tolist() == [1]


def test_a_path_that_is_no_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file is a file\. Check the path"):
        load(tmp_path / "file")
    with pytest.raises(InputError, match="needs the path of a folder"):
        load_dataset("folder:")


def test_real_x_rays(test_data):
    first = load(test_data / "chest_xray", image_size=96)
    assert first.task == "binary"
    assert first.class_names == ("NORMAL", "PNEUMONIA")
    expected = {"train": [1072, 3099], "val": [134, 388], "test": [135, 388]}
    for split, counts in expected.items():
        assert np.bincount(getattr(first, split).labels).tolist() == counts
    # The files are RGB with three equal channels.
    assert first.train.images.shape == (4171, 96, 96, 1)
    assert (
        load(test_data / "chest_xray", image_size=96).fingerprint == first.fingerprint
    )


@pytest.mark.parametrize(
    "names", [("Training", "Valid", "Testing"), ("TRAIN", "dev_set", "Test Images")]
)
def test_splits_in_other_words_are_no_classes(root, names):
    before = load(root)
    for old, new in zip(("train", "val", "test"), names, strict=True):
        (root / old).rename(root / f"{new}")
    data = load(root)
    assert data.class_names == before.class_names
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 2, 2]
    assert data.val.ids[0] == f"{names[1]}/NORMAL/normal-0.png"


def test_val_can_be_cut_out_of_train_and_test_kept(root):
    remove("val")(root)
    for i in range(2, 12):
        for name in ("NORMAL", "PNEUMONIA"):
            draw(root / "train" / name / f"{name.lower()}-{i}.png", seed=i)
    splitting = Splitting(split="stratified", keep_test=True, val_share=0.25)
    data = load(root, splitting=splitting)
    assert [len(part) for part in (data.train, data.val, data.test)] == [18, 6, 2]
    assert all(name.startswith("test/") for name in data.test.ids)
    assert all(name.startswith("train/") for name in data.val.ids)
    for part in (data.train, data.val, data.test):
        for image, name in zip(part.images, part.ids, strict=True):
            np.testing.assert_array_equal(image[..., 0], Image.open(root / name))
    anew = load(root, splitting=Splitting(split="stratified"))
    assert len(anew.test) > 2


def test_a_train_folder_alone_is_to_be_split(root):
    remove("val")(root)
    remove("test")(root)
    with pytest.raises(InputError, match="has train, and no val and no test"):
        load(root)
    splitting = Splitting(split="stratified", val_share=0.25, test_share=0.25)
    assert len(load(root, splitting=splitting).train) == 2


def test_a_class_without_a_folder_in_val_or_test_is_told(root):
    remove("test", "PNEUMONIA")(root)
    data = load(root)
    assert data.test.labels.tolist() == [0]
    assert "test has no folder PNEUMONIA" in " ".join(data.notes)


def test_two_unicode_forms_are_one_class(root):
    for split, form in (("train", "NFC"), ("val", "NFD"), ("test", "NFC")):
        (root / split / "NORMAL").rename(root / split / normalize(form, "gesund é"))
    data = load(root)
    assert data.class_names == ("PNEUMONIA", normalize("NFC", "gesund é"))
    assert data.val.labels.tolist() == [1, 0] or data.val.labels.tolist() == [0, 1]
    draw(root / "val" / normalize("NFC", "gesund é") / "x.png")
    with pytest.raises(InputError, match="differ in their Unicode form alone"):
        load(root)


def test_folders_of_splits_in_class_folders_are_told(tmp_path):
    for name in "ab":
        for split in ("train", "test"):
            for i in range(5):
                draw(tmp_path / "set" / name / split / f"{i}.png", seed=i)
    splitting = Splitting(split="stratified", val_share=0.2)
    data = load(tmp_path / "set", splitting=splitting)
    assert data.class_names == ("a", "b")
    assert "have folders test, train, which are not taken as splits" in data.notes[0]


def test_a_class_named_like_a_split_is_explained(tmp_path):
    for name in ("control", "test"):
        draw(tmp_path / "set" / name / "0.png")
    with pytest.raises(InputError, match="Rename a class that has the name of a split"):
        load(tmp_path / "set")
