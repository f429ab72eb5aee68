"""predictions.csv, written and read."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions, read_predictions, write_predictions

ODD = ('comma, "quote"', "größe\nzweite Zeile", " 細胞 ")


def odd_predictions(task, split):
    random = np.random.default_rng(3)
    n = 50
    probs = random.dirichlet(np.full(3, 0.1), n).astype(np.float32)
    probs[0] = (1, np.float32(1e-45), 0)
    labels = random.integers(0, 2, (n, 3)) if task == "multilabel" else None
    return Predictions(
        split=split,
        ids=tuple(f'{split}/{i}, "ü" \r\udcff{i}' for i in range(n)),
        labels=random.integers(0, 3, n) if labels is None else labels,
        probs=probs,
        class_names=ODD,
        task=task,
    )


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_round_trip_is_exact(tmp_path, task):
    path = tmp_path / "predictions.csv"
    written = [odd_predictions(task, split) for split in ("val", "test")]
    write_predictions(path, written)
    read = read_predictions(path, class_names=ODD, task=task)
    assert list(read) == ["val", "test"]
    for a, b in zip(written, read.values(), strict=True):
        assert a.ids == b.ids
        assert (a.labels == b.labels).all()
        assert (a.probs == b.probs).all()
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


def test_columns_and_plain_csv(tmp_path, draw):
    path = tmp_path / "predictions.csv"
    predictions = draw("multilabel", n=5, classes=2)
    write_predictions(path, [predictions])
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    names = ["label_class 0", "label_class 1", "prob_class 0", "prob_class 1"]
    assert header == ["split", "id", *names]
    assert [row[1] for row in rows] == list(predictions.ids)
    assert [[float(x) for x in row[4:]] for row in rows] == predictions.probs.tolist()


def test_missing_labels_groups_and_columns_survive(tmp_path, draw):
    path = tmp_path / "predictions.csv"
    labels = np.array([[1, -1], [0, 1], [-1, -1]])
    written = replace(
        draw("multilabel", n=3, classes=2),
        labels=labels,
        groups=("p1", "", "p1"),
        columns={"site": ("A", "B, C", ""), "group": ("x", "y", "z")},
    )
    write_predictions(path, [written])
    lines = path.read_text().splitlines()
    assert lines[0].endswith(",group,column_site,column_group")
    assert lines[1].startswith("test,test/000000,1,,")
    assert lines[1].endswith(",p1,A,x")
    names = written.class_names
    read = read_predictions(path, class_names=names, task="multilabel")["test"]
    assert (read.labels == labels).all()
    assert read.groups == written.groups
    assert read.columns == written.columns
    plain = draw(n=5)
    write_predictions(path, [plain])
    read = read_predictions(path, class_names=plain.class_names, task="multiclass")
    assert read["test"].groups is None
    assert read["test"].columns == {}


def test_a_byte_order_mark_is_skipped(tmp_path, draw):
    path = tmp_path / "predictions.csv"
    predictions = draw(n=5)
    write_predictions(path, [predictions])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    read = read_predictions(
        path, class_names=predictions.class_names, task="multiclass"
    )
    assert (read["test"].probs == predictions.probs).all()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, draw):
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    bad = replace(draw(n=4), ids=("a", "b", "c", "\ud800"))  # not UTF-8
    with pytest.raises(UnicodeEncodeError):
        write_predictions(path, [bad])
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_refused_to_write(tmp_path, draw):
    path = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match="no predictions"):
        write_predictions(path, [])
    with pytest.raises(InputError, match="same split"):
        write_predictions(path, [draw(n=5), draw(n=6)])
    with pytest.raises(InputError, match="differ in task or class names"):
        write_predictions(path, [draw(n=5, split="val"), draw(n=5, classes=3)])
    grouped = replace(draw(n=2, split="val", classes=2), groups=("a", "b"))
    with pytest.raises(InputError, match="differ in groups or columns"):
        write_predictions(path, [grouped, draw(n=5, classes=2)])
    assert not list(tmp_path.iterdir())


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("prob_class 1", "prob_other", "expected the columns .* got"),
        ("prob_class 3", "prob_class 3,site", "expected the columns .* got"),
        ("test/000002,", "test/000002,x", "line 4: invalid literal"),
        ("test/000002,", "test/000002,9,", "line 4: expected 7 columns, got 8"),
        ("test/000002", "test/000001", "'test/000001' more than once"),
        ("test,test/000002", "toast,test/000002", "Unknown split 'toast'"),
    ],
)
def test_refused_to_read(tmp_path, draw, old, new, message):
    path = tmp_path / "predictions.csv"
    predictions = draw(n=5)
    write_predictions(path, [predictions])
    path.write_text(edited(path.read_text(), old, new))
    with pytest.raises(InputError, match=message):
        read_predictions(path, class_names=predictions.class_names, task="multiclass")


def test_missing_and_empty_files(tmp_path, draw):
    names = draw(n=5).class_names
    path = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match="no predictions file"):
        read_predictions(path, class_names=names, task="multiclass")
    write_predictions(path, [draw(n=5)])
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="no rows"):
        read_predictions(path, class_names=names, task="multiclass")
    path.write_text("")
    with pytest.raises(InputError, match="expected the columns"):
        read_predictions(path, class_names=names, task="multiclass")
