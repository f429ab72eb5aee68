"""Recipes of several sets: how they are resolved, and what they refuse."""

import math

import pytest

from jaxmed.config.multi_dataset import is_board, load_board
from jaxmed.config.recipes import find_recipe, load_recipe
from jaxmed.data.sources.medmnist_catalog import read_catalog
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.runtime.toml import format_toml

TEXT = """
description = "Two sets"
[data]
image_size = 32
[train]
batch_size = 8
options = { epochs = 2 }
[sets]
small.data.source = "npz:small.npz"
small.train.options.epochs = 9
large.data.source = "npz:large.npz"
large.train.batch_size = 64
[arms.a]
train.strategy = "full"
train.batch_size = 16
[arms.b]
train.strategy = "frozen"
[published]
source = "a paper"
methods = ["one", "two"]
auroc.small = [0.9, nan]
accuracy.large = [0.5, 1]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


def test_each_set_is_a_recipe_with_a_folder_of_its_own(path):
    assert is_board(path)
    board = load_board(path)
    assert board.sets == tuple(board.recipes) == ("small", "large")
    small, large = board.recipes.values()
    assert (small.name, large.name) == ("mine/small", "mine/large")
    assert [c.data.source for c in large.arms.values()] == ["npz:large.npz"] * 2
    assert [c.data.image_size for c in large.arms.values()] == [32, 32]
    assert small.order == large.order == ("a", "b")


def test_a_set_goes_before_the_recipe_and_an_arm_before_the_set(path):
    small, large = load_board(path).recipes.values()
    assert [c.train.batch_size for c in small.arms.values()] == [16, 8]
    assert [c.train.batch_size for c in large.arms.values()] == [16, 64]
    assert [c.train.options for c in small.arms.values()] == [{"epochs": 9}] * 2
    assert [c.train.options for c in large.arms.values()] == [{"epochs": 2}] * 2


def test_a_run_of_a_set_written_as_toml_is_the_same_run(path, tmp_path):
    small = load_board(path).recipes["small"]
    (tmp_path / "config.toml").write_text(format_toml(small.table("a", 0)))
    again = load_recipe(tmp_path / "config.toml")
    assert again.name == "mine/small"
    assert again.arms["a"] == small.arms["a"]


def test_flags_are_for_all_sets_or_for_one(path):
    own = {"small": {"data": {"source": "cells"}}}
    overrides = {"name": "other", "train": {"seeds": [3]}, "sets": own}
    board = load_board(path, overrides, arms=["b"], sets=["small"])
    assert board.name == "other"
    assert list(board.recipes) == ["small"]
    assert board.sets == ("small", "large")
    recipe = board.recipes["small"]
    assert recipe.name == "other/small"
    assert list(recipe.arms) == ["b"]
    assert recipe.arms["b"].data.source == "cells"
    assert recipe.runs == [("b", 3)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[sets]", "[sets]\nthird = 3", "sets.third must be a table, got 3."),
        ("[published]", "[published]\nnote = 3", "note must be a text"),
        ('source = "a paper"', "", "source is missing"),
        ("large.data", "'la/rge'.data", "because it names a folder"),
        ("large.data.source", "large.data.sauce", "set large, arm a: unknown key"),
        ("auroc.small", "auroc.smal", "Did you mean 'small'?"),
        ("auroc.small", "auroq.small", "Did you mean 'auroc'?"),
        ("[0.9, nan]", "[0.9]", "auroc.small must be a list of 2 numbers"),
        ("[0.5, 1]", '[0.5, "1"]', "accuracy.large must be a list of 2 numbers"),
        ('["one", "two"]', '"one"', "methods must be a list of texts"),
    ],
)
def test_mistakes_in_the_file_are_sentences(path, old, new, expected):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match="mine") as caught:
        load_board(path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--sets", "smal"], "Unknown set of mine 'smal'. Did you mean 'small'?"),
        (["--sets.smal.train.seeds", "1"], "Unknown set of mine 'smal'"),
        (["--sets", ","], "--sets needs at least one name."),
        (["--data.source", "cells"], "Use --sets.NAME.data.source."),
        (["--arms", "c"], "Unknown arm of mine 'c'"),
    ],
)
def test_mistakes_in_flags_are_sentences(path, capsys, flags, expected):
    assert main(["run", str(path), "--out", str(path.parent / "out"), *flags]) == 2
    assert expected in capsys.readouterr().err
    assert not (path.parent / "out").exists()


@pytest.mark.parametrize("sets", ["3", "{}"])
def test_sets_must_be_tables(path, sets):
    path.write_text(f"sets = {sets}\n")
    with pytest.raises(InputError, match="sets must be tables"):
        load_board(path)


def test_sets_are_refused_where_a_recipe_has_none(capsys):
    assert main(["run", "quickstart", "--sets", "a"]) == 2
    assert "not a recipe of several sets" in capsys.readouterr().err


def test_commands_about_one_set_ask_which(path, capsys):
    for command in ("find-lr", "advise", "inspect"):
        assert main([command, str(path)]) == 2
        assert "Say by --data.source which images" in capsys.readouterr().err
    recipe = load_recipe(path, {"data": {"source": "cells"}})
    assert recipe.base.data.source == "cells"
    assert recipe.base.train.options == {"epochs": 2}


def test_all_twelve_sets_of_medmnist_are_there_with_their_published_numbers():
    board = load_board(find_recipe("medmnist_leaderboard"))
    assert set(board.sets) == set(read_catalog())
    for name, recipe in board.recipes.items():
        assert {c.data.source for c in recipe.arms.values()} == {f"medmnist:{name}"}
    # The paper has these means over the twelve sets, too.
    means = {"auroc": (0.922, 0.925, 0.920, 0.923)}
    means |= {"accuracy": (0.819, 0.821, 0.816, 0.821)}
    for metric, expected in means.items():
        rows = board.published.numbers[metric]
        assert list(rows) == list(board.sets)
        for column, mean in zip(
            zip(*rows.values(), strict=True), expected, strict=True
        ):
            # Both were rounded to three digits.
            assert math.isclose(sum(column) / 12, mean, abs_tol=0.00101)
