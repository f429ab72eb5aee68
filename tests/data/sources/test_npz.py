"""`npz:PATH` on good files, and a sentence for every way a file can be bad."""

import sys

import numpy as np
import pytest

from jaxmed.data.labels import MISSING
from jaxmed.data.sources import npz
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

COUNTS = {"train": 6, "val": 3, "test": 4}


def make_arrays(classes: int = 3, channels: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        shape = (count, 10, 8) + (() if channels is None else (channels,))
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        labels = np.arange(count, dtype=np.uint8) % classes
        arrays[f"{split}_labels"] = labels[:, None]
    return arrays


@pytest.fixture
def save(tmp_path):
    def save(arrays, name="scans.npz"):
        path = tmp_path / name
        np.savez_compressed(path, **arrays)
        return path

    return save


def load(path):
    return load_dataset(f"npz:{path}")


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_reads_images_labels_and_ids(save, channels):
    arrays = make_arrays(channels=channels)
    data = load(save(arrays))
    assert (data.name, data.task) == ("scans", "multiclass")
    assert data.class_names == ("0", "1", "2")
    assert data.image_size == 10
    assert data.val.ids == ("val/000000", "val/000001", "val/000002")
    for split, count in COUNTS.items():
        images = arrays[f"{split}_images"].reshape(count, 10, 8, channels or 1)
        np.testing.assert_array_equal(getattr(data, split).images, images)
        labels = arrays[f"{split}_labels"][:, 0]
        np.testing.assert_array_equal(getattr(data, split).labels, labels)
        assert getattr(data, split).labels.dtype == np.int32


def test_task_follows_from_the_labels(save):
    assert load(save(make_arrays(classes=2))).task == "binary"
    arrays = make_arrays()
    for split, count in COUNTS.items():
        arrays[f"{split}_labels"] = np.tile(np.ones(5, np.int64), (count, 1))
    data = load(save(arrays))
    assert data.task == "multilabel"
    assert data.train.labels.shape == (6, 5)


def test_labels_of_several_can_be_missing(save):
    arrays = make_arrays()
    rows = np.array([[1, -1, 1], [0, 1, 0], [1, 0, 0]])
    for split, count in COUNTS.items():
        arrays[f"{split}_labels"] = np.resize(rows, (count, 3))
    data = load(save(arrays))
    assert data.task == "multilabel"
    assert data.train.labels.tolist() == [[1, MISSING, 1], [0, 1, 0], [1, 0, 0]] * 2
    for split in COUNTS:
        labels = arrays[f"{split}_labels"].astype(float)
        arrays[f"{split}_labels"] = np.where(labels == -1, np.nan, labels)
    assert load(save(arrays)).fingerprint == data.fingerprint
    arrays["val_labels"][0, 1] = -2
    with pytest.raises(InputError, match=r"val/000000 is -2, not 0 or 1, nor -1 for"):
        load(save(arrays))


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_split_needs_no_val(save, empty):
    arrays = make_arrays()
    for part in ("images", "labels"):
        val = arrays.pop(f"val_{part}")
        if empty:
            arrays[f"val_{part}"] = val[:0]
    source = f"npz:{save(arrays)}"
    with pytest.raises(InputError, match=r"has train and test, and no val|is empty"):
        load_dataset(source)
    split = {"split": "stratified", "val_share": 0.5}
    data = load_dataset(source, splitting=Splitting(**split, keep_test=True))
    assert data.test.ids == tuple(f"test/{i:06d}" for i in range(COUNTS["test"]))
    assert sorted(data.train.ids + data.val.ids) == [f"train/{i:06d}" for i in range(6)]
    assert len(data.val) == 3
    data = load_dataset(source, splitting=Splitting(split="stratified"))
    ids = data.train.ids + data.val.ids + data.test.ids
    assert sorted(ids) == sorted(name for name in ids if "val" not in name)
    assert len(ids) == COUNTS["train"] + COUNTS["test"]


def test_a_new_split_needs_classes_in_no_particular_split(save):
    arrays = make_arrays()
    arrays["train_labels"] %= 2
    with pytest.raises(InputError, match="is 2, outside the 2 classes 0 to 1"):
        load(save(arrays))
    arrays["val_labels"][:] = 2
    splitting = Splitting(split="stratified", val_share=0.2, test_share=0.2)
    data = load_dataset(f"npz:{save(arrays)}", splitting=splitting)
    assert data.class_names == ("0", "1", "2")
    assert set(data.train.labels) == {0, 1, 2}


def test_a_new_split_of_images_of_two_sizes_is_refused(save):
    arrays = make_arrays()
    arrays["test_images"] = arrays["test_images"][:, :4]
    assert load(save(arrays)).test.images.shape == (4, 4, 8, 1)
    with pytest.raises(InputError, match="differ in size"):
        load_dataset(f"npz:{save(arrays)}", splitting=Splitting(split="stratified"))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint64, np.int8, np.bool_])
def test_whole_labels_of_any_type_are_read(save, dtype):
    arrays = make_arrays(classes=2)
    for split in COUNTS:
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"].astype(dtype)
    np.testing.assert_array_equal(load(save(arrays)).train.labels, [0, 1] * 3)


@pytest.mark.parametrize(
    "name", ["dermamnist_benign", "pneumoniamnist_mine", "octmnist"]
)
def test_a_name_like_medmnists_gives_no_class_names(save, name):
    """Not to a file of other images than the set's."""
    data = load(save(make_arrays(classes=2), f"{name}.npz"))
    assert (data.task, data.class_names) == ("binary", ("0", "1"))
    # Of a file's own name it is said what it is not.
    assert bool(data.notes) == (name == "octmnist")
    named = load_dataset(f"{data.source}?classes=benign,malignant")
    assert named.class_names == ("benign", "malignant")
    np.testing.assert_array_equal(named.train.labels, data.train.labels)


@pytest.mark.parametrize(
    ("labels", "task"), [(5, "ordinal"), (4, "multiclass"), (6, "multiclass")]
)
def test_a_medmnist_file_has_its_sets_counts_and_labels(tmp_path, labels, task):
    arrays = {}
    for split, count in {"train": 1080, "val": 120, "test": 400}.items():
        arrays[f"{split}_images"] = np.zeros((count, 2, 2), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % labels
    np.savez(tmp_path / "RetinaMNIST_64.npz", **arrays)
    before = "medmnist" in sys.modules
    data = load(tmp_path / "RetinaMNIST_64.npz")
    assert (data.task, len(data.class_names)) == (task, labels)
    assert ("medmnist" in sys.modules) == before


def test_one_hot_labels_are_classes(save):
    arrays = make_arrays()
    plain = load(save(arrays))
    for split in COUNTS:
        arrays[f"{split}_labels"] = np.eye(3)[arrays[f"{split}_labels"][:, 0]]
    data = load(save(arrays))
    assert (data.task, data.fingerprint) == ("multiclass", plain.fingerprint)
    assert "exactly one of the 3 columns" in data.notes[0]
    said = load_dataset(f"{data.source}?task=multilabel")
    assert (said.task, said.train.labels.shape) == ("multilabel", (6, 3))
    # One image with two of them, of any split, makes them labels.
    arrays["test_labels"][0] = 1
    assert load(save(arrays)).task == "multilabel"
    with pytest.raises(InputError, match="1 of 4 images have not exactly one class"):
        load_dataset(f"{data.source}?task=multiclass")


def test_real_files(test_data):
    folder = test_data / "medmnist"
    data = load(folder / "pneumoniamnist_reassembled.npz")
    counts = [len(split) for split in (data.train, data.val, data.test)]
    assert counts == [4708, 524, 624]
    assert data.task == "binary"
    assert data.train.images.shape == (4708, 28, 28, 1)
    assert np.bincount(data.test.labels).tolist() == [234, 390]


def change(key, value):
    def edit(arrays):
        arrays[key] = value(arrays[key])

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda a: a.pop("val_labels"), "has no key 'val_labels'. It needs train_im"),
        (
            change("test_images", lambda x: x.astype(np.float32)),
            "key 'test_images': images must be of type uint8 .* got float32",
        ),
        (
            change("val_images", lambda x: x[:, :, 0]),
            r"key 'val_images': images must have the shape .* got \(3, 10\)",
        ),
        (
            change("val_images", lambda x: np.stack([x] * 4, -1)),
            r"key 'val_images': .* got \(3, 10, 8, 4\)",
        ),
        (
            change("val_labels", lambda x: x[:2]),
            r"key 'val_labels': the labels of 3 images .* \(3,\), got \(2,\)",
        ),
        (
            change("val_labels", lambda x: x[..., None]),
            r"key 'val_labels': .*shape .* got \(3, 1, 1\)",
        ),
        (
            change("test_labels", lambda x: x + 1),
            "key 'test_labels': the label of test/000002 is 3, outside the 3 classes "
            "0 to 2",
        ),
        (
            change("train_labels", lambda x: x + 1),
            "key 'train_labels': the labels must be 0, 1, .* found are 1, 2, 3",
        ),
        (
            change("train_labels", lambda x: x * 0),
            "key 'train_labels': .* at least two classes .* found are 0",
        ),
        (
            change("val_labels", lambda x: x + 0.5),
            "key 'val_labels': labels must be whole numbers, got 0.5 in row 0",
        ),
        (
            change("val_labels", lambda x: x * np.float64("nan")),
            "key 'val_labels': labels must be whole numbers, got nan",
        ),
        (
            change("val_labels", lambda x: x.astype(int) + 2**40),
            "key 'val_labels': labels must be whole numbers, got 1099511627776",
        ),
        (
            change("val_labels", lambda x: x.astype(str)),
            "key 'val_labels': labels must be whole numbers, got <U",
        ),
        (
            change("val_labels", lambda x: x.astype(object)),
            "array 'val_labels' cannot be read.* Python objects",
        ),
        (
            lambda a: a.update(test_images=a["test_images"][:0], test_labels=[]),
            "key 'test_images': the split is empty",
        ),
        (
            lambda a: a.update(train_images=a["train_images"][:0], train_labels=[]),
            "key 'train_labels': the split is empty",
        ),
    ],
)
def test_bad_file_is_explained(save, edit, sentence):
    arrays = make_arrays()
    edit(arrays)
    with pytest.raises(InputError, match=r"scans\.npz.*" + sentence):
        load(save(arrays))


def test_multilabel_width_must_agree(save):
    arrays = make_arrays()
    for split, count in COUNTS.items():
        arrays[f"{split}_labels"] = np.zeros((count, 5), np.uint8)
    arrays["val_labels"] = arrays["val_labels"][:, :4]
    with pytest.raises(InputError, match=r"'val_labels'.*\(3, 5\), got \(3, 4\)"):
        load(save(arrays))


def test_missing_file_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz does not exist"):
        load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(InputError, match="needs the path of a file"):
        load_dataset("npz:")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_file_is_explained(save, keep):
    path = save(make_arrays())
    content = path.read_bytes()
    size = int(len(content) * keep) if isinstance(keep, float) else keep
    path.write_bytes(content[:size])
    with pytest.raises(InputError, match=rf"scans\.npz.*cut off.*\({size} bytes\)"):
        load(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_flipped_bytes_never_give_other_data_or_another_error(tmp_path, compressed):
    path = tmp_path / "scans.npz"
    (np.savez_compressed if compressed else np.savez)(path, **make_arrays())
    expected = load(path).fingerprint
    content = path.read_bytes()
    explained = 0
    for position in np.random.default_rng(0).integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert load(path).fingerprint == expected
        except InputError:
            explained += 1
    assert explained > 100


def test_large_files_show_progress(save, monkeypatch, capsys):
    path = save(make_arrays())
    load(path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(npz, "LARGE_FILE", 1000)
    load(path)
    assert "Reading scans.npz 6/6" in capsys.readouterr().err
