"""Splits as files: written, read back, and wrong in every way."""

import re
from dataclasses import replace

import numpy as np
import pytest

from jaxmed.data.dataset import SPLITS, SourceImages, Split
from jaxmed.data.splits.split_file import find_role, write_split
from jaxmed.data.splits.splitting import Splitting, make_split
from jaxmed.errors import InputError


@pytest.fixture
def images():
    count = 40
    return SourceImages(
        name="toy",
        source="folder:toy",
        task="binary",
        class_names=("a", "b"),
        splits={
            "": Split(
                images=np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1),
                labels=np.arange(count, dtype=np.int32) % 2,
                ids=tuple(f'x/p{i // 2}, "№ {i}".png' for i in range(count)),
            )
        },
    )


@pytest.mark.parametrize("pattern", ["", r"(p\d+),"])
def test_a_written_split_is_made_again(images, tmp_path, pattern):
    kind = "patient" if pattern else "stratified"
    made = make_split(images, Splitting(split=kind, group_pattern=pattern))
    write_split(tmp_path / "split.csv", made)
    again = make_split(images, Splitting(split=f"file:{tmp_path}/split.csv"))
    assert again.fingerprint == made.fingerprint
    for name in SPLITS:
        assert getattr(again, name).groups == getattr(made, name).groups
    write_split(tmp_path / "again.csv", again)
    first, second = (tmp_path / f"{n}.csv" for n in ("split", "again"))
    assert second.read_bytes() == first.read_bytes()


def test_groups_of_the_source_go_before_those_of_the_file(images, tmp_path):
    made = make_split(images, Splitting(split="patient", group_pattern=r"(p\d+),"))
    write_split(tmp_path / "split.csv", made)
    settings = Splitting(split=f"file:{tmp_path}/split.csv", group_pattern=r"(\d)\D*$")
    again = make_split(images, settings)
    assert again.train.ids == made.train.ids
    assert set(again.train.groups) <= set("0123456789")


def test_a_table_of_ones_own_with_other_columns_is_read(images, tmp_path):
    lines = ["age,split,id"]
    for i, identity in enumerate(images.splits[""].ids):
        quoted = identity.replace('"', '""')
        lines.append(f'{i},{SPLITS[i % 3]},"{quoted}"')
    text = "\r\n".join(lines)
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8-sig", newline="")
    data = make_split(images, Splitting(split=f"file:{tmp_path}/mine.csv"))
    assert data.train.ids == images.splits[""].ids[::3]
    assert data.train.groups is None


def test_ids_in_another_unicode_form_are_the_same(images, tmp_path):
    ids = tuple(f"e\u0301/{i}.png" for i in range(40))
    named = replace(images, splits={"": replace(images.splits[""], ids=ids)})
    made = make_split(named, Splitting(split="stratified"))
    path = tmp_path / "split.csv"
    write_split(path, made)
    path.write_text(path.read_text("utf-8").replace("e\u0301", "\u00e9"), "utf-8")
    again = make_split(named, Splitting(split=f"file:{path}"))
    assert again.fingerprint == made.fingerprint


def changed(old, new):
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (changed("id,split", "name,split"), "must have the columns id and split, and"),
        (lambda text: "", "must have the columns id and split, and has none"),
        (changed(",train,", ",rest,"), "line 2: the split must be one of train, val"),
        (lambda text: text + text.split("\n")[1] + "\n", "line 42: 'x/p0, "),
        (
            lambda text: "\n".join(text.split("\n")[:-3]) + "\n",
            "has no row for 2 images of folder:toy: x/p",
        ),
        (
            lambda text: text + "x/new.png,train,\n",
            "names 1 images that folder:toy has not: x/new.png.",
        ),
        (lambda text: re.sub(",val,", ",train,", text), "no image is left for val"),
    ],
)
def test_a_file_that_does_not_fit_is_explained(images, tmp_path, edit, sentence):
    path = tmp_path / "split.csv"
    write_split(path, make_split(images, Splitting(split="stratified")))
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(sentence)):
        make_split(images, Splitting(split=f"file:{path}"))


def test_a_file_that_cannot_be_read_is_explained(images, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv cannot be read: No such file"):
        make_split(images, Splitting(split=f"file:{tmp_path}/nowhere.csv"))
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        make_split(images, Splitting(split=f"file:{tmp_path}/image.png"))


NAMES = {
    "train": ("train", "Train", "TRAIN", "Training", "training_set", "train-images"),
    "val": ("val", "Valid", "VALIDATION", "dev", "val_data", "Validation Set"),
    "test": ("test", "Testing", "TEST SET", "test_images", "test-split"),
}


@pytest.mark.parametrize("split", NAMES)
def test_names_of_splits(split):
    assert {find_role(name) for name in NAMES[split]} == {split}


@pytest.mark.parametrize(
    "name", ["", "tested", "normal", "trained", "valid2", "test 1", "images", "set"]
)
def test_names_of_no_split(name):
    assert find_role(name) is None
