"""Sources by name, those of a package that jaxmed knows nothing of among them."""

import numpy as np
import pytest

from jaxmed.data.images.resizing import Resizing
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

PAD = Resizing(mode="pad")
MODULE = """
from dataclasses import replace

import numpy as np
from jaxmed.data.dataset import SourceImages, Split

def load(rest, options):
    count = int(rest)
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(4, 1)
    images = Split(
        images=images.repeat(4, 2),
        labels=np.arange(count, dtype=np.int32) % 2,
        ids=tuple(map(str, range(count))),
    )
    return SourceImages(
        name="numbers", source=f"numbers:{rest}", task="binary",
        class_names=("even", "odd"), splits={"": images},
    )

def resized(rest, options):
    return replace(load(rest, options), name=options.reading.resizing.mode)

def wrong(rest, options):
    return {}
"""
POINTS = """
[jaxmed.sources]
numbers = foreign_source:load
resized = foreign_source:resized
wrong = foreign_source:wrong
gone = foreign_source_gone:load
unfinished = foreign_unfinished:load
"""


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A package as pip leaves it."""
    (tmp_path / "foreign_source.py").write_text(MODULE)
    (tmp_path / "foreign_unfinished.py").write_text("import not_there_at_all")
    about = tmp_path / "foreign_source-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: foreign-source\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_source_of_another_package_is_loaded_and_split():
    splitting = Splitting(split="stratified")
    data = load_dataset("numbers:40", image_size=8, splitting=splitting)
    assert (data.source, data.image_size) == ("numbers:40", 8)
    assert [len(s) for s in (data.train, data.val, data.test)] == [28, 4, 8]
    np.testing.assert_array_equal(data.val.labels, data.val.images[:, 0, 0, 0] % 2)


def test_a_loader_knows_how_to_resize():
    options = {"splitting": Splitting(split="stratified"), "resizing": PAD}
    for source, name in (("resized:40", "pad"), ("numbers:40", "numbers")):
        data = load_dataset(source, **options)
        assert (data.name, data.resizing, data.image_size) == (name, PAD, 4)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("number:40", "Unknown data source 'number'. Did you mean 'numbers'"),
        ("tabel:a.csv", "Did you mean 'table'"),
        (
            "wrong:",
            "loader returned a dict; it must return a jaxmed.data.SourceImages",
        ),
        ("gone:", "'gone' is foreign_source_gone:load, which is not there: No module"),
    ],
)
def test_what_is_not_right_is_explained(source, sentence):
    with pytest.raises(InputError, match=sentence):
        load_dataset(source)


@pytest.mark.parametrize("query", ["", "?label=label"])
def test_a_table_without_splits_is_refused_before_its_images_are_read(tmp_path, query):
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "cohort.csv").write_text("path,label\na.png,x\nb.png,y\n")
    source = f"table:{tmp_path / 'cohort.csv'}{query}"
    with pytest.raises(InputError, match=r"cohort.csv.* has no train, val and test"):
        load_dataset(source)
    with pytest.raises(InputError, match="2 of 2 images cannot be used"):
        load_dataset(source, splitting=Splitting(split="stratified"))


@pytest.mark.parametrize(("scheme", "ending"), [("folder", "png"), ("dicom", "dcm")])
def test_a_folder_without_splits_is_refused_before_its_images_are_read(
    tmp_path, scheme, ending
):
    for name in ("ill", "well"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        (tmp_path / "scans" / name / f"a.{ending}").write_text("no image")
    source = f"{scheme}:{tmp_path / 'scans'}"
    with pytest.raises(InputError, match="has no train, val and test, so the split"):
        load_dataset(source)
    with pytest.raises(InputError, match="2 of 2 images cannot be used"):
        load_dataset(source, splitting=Splitting(split="stratified"))
    with pytest.raises(InputError, match="needs the path of a folder"):
        load_dataset(f"{scheme}:")


def test_an_error_in_their_code_comes_out_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        load_dataset("unfinished:")
    with pytest.raises(ValueError, match="invalid literal for int"):
        load_dataset("numbers:many")
