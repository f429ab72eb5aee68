"""The catalog against the medmnist package, which is only needed here."""

import importlib.util
import json
import subprocess
import sys

import pytest

from jaxmed.data.sources.medmnist_catalog import find_entry, read_catalog, require_entry
from jaxmed.errors import InputError

TASKS = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "multi-label, binary-class": "multilabel",
    "ordinal-regression": "ordinal",
}
# MedMNIST v2 (Scientific Data 2023), table 1.
TASKS_2D = {
    "pathmnist": ("multiclass", 9),
    "chestmnist": ("multilabel", 14),
    "dermamnist": ("multiclass", 7),
    "octmnist": ("multiclass", 4),
    "pneumoniamnist": ("binary", 2),
    "retinamnist": ("ordinal", 5),
    "breastmnist": ("binary", 2),
    "bloodmnist": ("multiclass", 8),
    "tissuemnist": ("multiclass", 8),
    "organamnist": ("multiclass", 11),
    "organcmnist": ("multiclass", 11),
    "organsmnist": ("multiclass", 11),
}


@pytest.mark.skipif(
    importlib.util.find_spec("medmnist") is None,
    reason="the catalog is compared with the medmnist package, which is not installed",
)
def test_agrees_with_the_package(tmp_path):
    # In a process of its own: importing medmnist imports torch, and makes a folder.
    code = "import json, medmnist; print(json.dumps(medmnist.INFO))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        check=True,
    )
    info = json.loads(done.stdout)
    catalog = read_catalog()
    assert catalog.keys() == {name for name in info if not name.endswith("3d")}
    for name in info.keys() - catalog.keys():
        with pytest.raises(InputError, match=f"{name} holds 3D volumes"):
            require_entry(name)
    for name, entry in catalog.items():
        row = info[name]
        assert entry.task == TASKS[row["task"]]
        assert list(entry.class_names) == list(row["label"].values())
        assert entry.counts == row["n_samples"]
        assert entry.channels == row["n_channels"]
        assert entry.license == row["license"]
        for suffix in ("", "_64", "_128", "_224"):
            assert (f"url{suffix}" in row) == (name + suffix in entry.files)
            if name + suffix in entry.files:
                assert entry.files[name + suffix].url == row[f"url{suffix}"]
                assert entry.files[name + suffix].md5 == row[f"MD5{suffix}"]


def test_has_all_twelve_2d_sets_in_four_sizes():
    assert read_catalog().keys() == TASKS_2D.keys()
    assert all(len(entry.files) == 4 for entry in read_catalog().values())


@pytest.mark.parametrize("name", TASKS_2D)
def test_tasks(name):
    entry = read_catalog()[name]
    assert (entry.task, len(entry.class_names)) == TASKS_2D[name]


def test_finds_the_set_a_file_belongs_to():
    for stem in ("bloodmnist", "bloodmnist_224", "BloodMNIST"):
        entry = find_entry(stem)
        assert entry is not None
        assert entry.name == "bloodmnist"
    others = ("bloodmnist-mine", "bloodmnist_binary", "bloodmnist.v2", "bloodmnist_2")
    for stem in (*others, "scans", "my_bloodmnist", "organmnist3d", ""):
        assert find_entry(stem) is None
