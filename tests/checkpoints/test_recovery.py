"""Positions of checkpoints, and the choice of one that is whole."""

import json

import pytest

from jaxmed.checkpoints.manifest import write_manifest
from jaxmed.checkpoints.recovery import Position, positions_in, read_progress, recover
from jaxmed.errors import InputError


def make(folder, name, needs=()):
    """A folder as `Checkpoints` writes it, as far as recovery reads it."""
    path = folder / name
    (path / "progress").mkdir(parents=True)
    progress = {"needs": [name, *needs]}
    (path / "progress" / "metadata").write_text(json.dumps(progress))
    (path / "weights").write_text(f"weights of {name}")
    write_manifest(path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("position", "name", "words"),
    [
        (Position(3), "3", "epoch 3"),
        (Position(3, 120), "3+120", "step 120 of epoch 4"),
        (Position(0, 5), "0+5", "step 5 of epoch 1"),
    ],
)
def test_a_position_has_a_name_and_words(position, name, words):
    assert str(position) == name
    assert Position.parse(name) == position
    assert position.describe() == words


def test_positions_are_in_order_and_other_folders_are_none(tmp_path):
    for name in ("10", "9+3", "9", "2", "damaged-11", ".unfinished-12", "3+", "+4"):
        (tmp_path / name).mkdir()
    (tmp_path / "13").write_text("a file")
    (tmp_path / "3+").rmdir()
    (tmp_path / "+4").rmdir()
    expected = [Position(2), Position(9), Position(9, 3), Position(10)]
    assert positions_in(tmp_path) == expected


def test_the_newest_that_is_whole_is_found(tmp_path, capsys):
    assert recover(tmp_path) is None
    make(tmp_path, "1")
    make(tmp_path, "2", needs=["1"])
    assert recover(tmp_path) == Position(2)
    assert capsys.readouterr().err == ""
    assert read_progress(tmp_path, Position(2)) == {"needs": ["2", "1"]}


def test_damaged_ones_are_set_aside_and_named(tmp_path, capsys):
    make(tmp_path, "1")
    (make(tmp_path, "2", needs=["1"]) / "weights").write_text("other")
    (make(tmp_path, "2+5", needs=["1"]) / "weights").unlink()
    (tmp_path / "damaged-2").mkdir()
    assert recover(tmp_path) == Position(1)
    assert names(tmp_path) == ["1", "damaged-2", "damaged-2+5", "damaged-2-2"]
    said = capsys.readouterr().err
    assert "The checkpoint of step 5 of epoch 3 cannot be used" in said
    assert "lacks the file weights. It is damaged-2+5 now" in said
    assert said.count("training goes on after epoch 1.") == 2


def test_one_that_needs_a_damaged_one_is_not_whole(tmp_path, capsys):
    make(tmp_path, "1")
    (make(tmp_path, "2") / "weights").write_text("other")
    make(tmp_path, "3", needs=["2"])
    assert recover(tmp_path) == Position(1)
    assert "2, the best epoch until then, has a file" in capsys.readouterr().err


def test_if_none_is_whole_nothing_is_renamed(tmp_path):
    (make(tmp_path, "1") / "weights").unlink()
    with pytest.raises(InputError, match=r"No checkpoint in .* lacks the file weights"):
        recover(tmp_path)
    assert names(tmp_path) == ["1"]
