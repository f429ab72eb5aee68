"""`tfds:NAME` on data sets that tensorflow-datasets prepares, without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

pytest.importorskip("tensorflow_datasets", reason="it prepares and reads the files")

# In a process of its own: here, the data sets are known by their files alone.
PREPARE = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Base(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    SPLITS = {"train": 6, "validation": 3, "test": 2}
    FEATURES = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["well", "ill"]),
        "name": tfds.features.Text(),
    }
    KEYS = ("image", "label")

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=self.KEYS
        )

    def _split_generators(self, manager):
        return {s: self._generate_examples(s, n) for s, n in self.SPLITS.items()}

    def _generate_examples(self, split, count):
        for i in range(count):
            file = io.BytesIO()
            pixels = np.full((6, 8, 3), 10 * i, np.uint8)
            pixels[0, 0] = 1, 2, 3
            Image.fromarray(pixels).save(file, "png")
            file.seek(0)
            example = {"image": file, "label": i % 2, "name": f"{i}"}
            yield f"{split}{i}", {key: example[key] for key in self.FEATURES}

class Scans(Base): pass
class ScansTrain(Base):
    SPLITS = {"train": 10}
class ScansTwo(Base):
    SPLITS = {"train": 8, "test": 3}
class ScansOdd(Base):
    SPLITS = {"unlabeled": 2}
class ScansPlain(Base):
    KEYS = None
class ScansUnlabeled(Base):
    FEATURES = {key: Base.FEATURES[key] for key in ("image", "name")}
    KEYS = None

for kind in (Scans, ScansTrain, ScansTwo, ScansOdd, ScansPlain, ScansUnlabeled):
    kind(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    script = folder / "prepare.py"
    script.write_text(PREPARE)
    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))


@pytest.mark.parametrize("name", ["scans", "scans_plain", "scans:1.0.0"])
def test_images_labels_and_ids(name):
    data = load_dataset(f"tfds:{name}")
    assert data.source == f"tfds:{name}"
    assert (data.task, data.class_names) == ("binary", ("well", "ill"))
    splits = {"train": data.train, "val": data.val, "test": data.test}
    assert {key: len(split) for key, split in splits.items()} == {
        "train": 6,
        "val": 3,
        "test": 2,
    }
    assert data.val.ids == ("val/000000", "val/000001", "val/000002")
    assert data.train.images.shape == (6, 6, 8, 3)
    for split in splits.values():
        # The files shuffle the examples; each image says which one it is.
        numbers = split.images[:, 3, 3, 0] // 10
        assert sorted(numbers) == list(range(len(split)))
        assert split.labels.tolist() == (numbers % 2).tolist()
        np.testing.assert_array_equal(split.images[:, 0, 0], [[1, 2, 3]] * len(split))
    assert "tensorflow" not in sys.modules


def test_a_data_set_without_the_three_splits_is_split():
    with pytest.raises(InputError, match="tfds:scans_train"):
        load_dataset("tfds:scans_train")
    splitting = Splitting(split="stratified", val_share=0.2, test_share=0.2)
    data = load_dataset("tfds:scans_train", splitting=splitting, image_size=4)
    assert [len(s) for s in (data.train, data.val, data.test)] == [6, 2, 2]
    assert data.val.labels.tolist() in ([0, 1], [1, 0])
    assert data.train.images.shape == (6, 4, 4, 3)


def test_val_is_taken_from_train_where_there_is_none():
    with pytest.raises(InputError, match=r"scans_two has train and test, and no val"):
        load_dataset("tfds:scans_two")
    splitting = Splitting(split="stratified", val_share=0.25, keep_test=True)
    data = load_dataset("tfds:scans_two", splitting=splitting)
    assert data.test.ids == ("test/000000", "test/000001", "test/000002")
    assert (len(data.train), len(data.val)) == (6, 2)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "needs the name of a data set, as in 'tfds:malaria'"),
        ("malari", "Unknown data set of tensorflow-datasets 'malari'. .* 'malaria'"),
        ("malaria", r"malaria is not prepared in .* Run `tfds build malaria --file_f"),
        ("scans:2.0.0", "or not in this configuration or version"),
        ("malaria:9.9.9", "malaria:9.9.9"),
        ("scans_odd", "no split called train, validation or test; .* are unlabeled"),
        (
            "scans_unlabeled",
            r"one image and one class label .* has image \(Image\), name \(Text\)",
        ),
    ],
)
def test_what_is_not_right_is_explained(name, sentence):
    with pytest.raises(InputError, match=sentence):
        load_dataset(f"tfds:{name}")


@pytest.mark.parametrize("name", ["colorectal_histology", "malaria", "patch_camelyon"])
def test_the_medical_data_sets_named_in_the_readme_have_a_label(name, folder):
    import tensorflow_datasets

    from jaxmed.data.sources.tfds import _find_keys

    info = tensorflow_datasets.builder(name, data_dir=folder).info
    assert _find_keys(info, name) == ("image", "label")


def test_without_tensorflow_datasets_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"pip install 'jaxmed\[tfds\]'"):
        load_dataset("tfds:scans")
