import tomllib
from pathlib import Path

import pytest

from jaxmed.config.multi_dataset import is_board, load_board
from jaxmed.config.recipes import (
    find_recipe,
    load_recipe,
    merge_tables,
    needed_recipes,
    recipe_files,
)
from jaxmed.config.schema import TrainConfig
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.prepare import check_arm
from jaxmed.runs.layout import arm_of, fold_of, run_folder
from jaxmed.runtime.toml import format_toml

TEXT = """
[data]
source = "cells"
[train]
options = { epochs = 2, learning_rate = 0.5 }
[arms.a]
train.strategy = "full"
[arms.b]
train.strategy = "frozen"
train.options.epochs = 7
[[expect]]
arm = "b"
metric = "test_auroc"
value = 0.9
source = "a paper"
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_cross_validation_is_a_recipe_for_every_fold(recipe_file):
    flags = {"data": {"cross_validation": True, "folds": 3, "repeats": 2}}
    recipe = load_recipe(recipe_file, flags)
    parts = recipe.folds
    assert [part.base.data.fold_number for part in parts] == [0, 1, 2, 3, 4, 5]
    assert {(p.base.data.repeat, p.base.data.fold) for p in parts} == {
        (repeat, fold) for repeat in (0, 1) for fold in (0, 1, 2)
    }
    folder = run_folder(Path("out"), parts[4], "b", 7)
    assert folder == Path("out/mine/b/fold-4/seed-7")
    assert (arm_of(folder), fold_of(folder)) == ("b", 4)
    # A run's own configuration is of its fold alone.
    path = recipe_file.with_name("config.toml")
    path.write_text(format_toml(parts[4].table("b", 0)))
    (alone,) = load_recipe(path).folds
    assert alone.base.data == parts[4].arms["b"].data
    plain = load_recipe(recipe_file)
    assert plain.folds == [plain]
    assert arm_of(run_folder(Path("out"), plain, "a", 0)) == "a"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cross_validation": True}, "needs data.folds of at least 3"),
        ({"repeats": 2}, "is for data.cross_validation"),
        ({"cross_validation": True, "folds": 3, "repeat": 1}, "Leave repeat out"),
    ],
)
def test_folds_that_do_not_fit_are_refused(recipe_file, flags, message):
    with pytest.raises(InputError, match=message):
        load_recipe(recipe_file, {"data": flags})


def test_arms_of_a_cross_validation_share_its_folds(recipe_file):
    flags = {"data": {"cross_validation": True, "folds": 3}}
    with pytest.raises(InputError, match=r"need the same folds, and data\.split_seed"):
        load_recipe(recipe_file, flags | {"arms": {"b": {"data": {"split_seed": 1}}}})
    off = {"b": {"data": {"cross_validation": False}}}
    with pytest.raises(InputError, match=r"the same folds, and data\.cross_validation"):
        load_recipe(recipe_file, flags | {"arms": off})
    changed(recipe_file, "[arms.a]", "[arms.fold-1]")
    with pytest.raises(InputError, match="the name of a folder of one of its runs"):
        load_recipe(recipe_file)


@pytest.mark.parametrize("name", list(recipe_files()))
def test_recipes_that_come_with_jaxmed_hold_together(name):
    path = find_recipe(name)
    several = load_board(path).recipes.values() if is_board(path) else None
    for recipe in several or [load_recipe(path)]:
        for arm, config in recipe.arms.items():
            check_arm(config, arm)
        needed_recipes(recipe)
    header = path.read_text().partition("\n\n")[0]
    for heading in ("Purpose:", "Source:", "Command:", "Expected:"):
        assert f"# {heading}" in header
    assert f"python -m jaxmed.experiments run {name}" in header


def test_the_recipes_of_the_quickstart_and_the_tutorials_are_there():
    assert set(recipe_files()) >= {
        "quickstart",
        "cells_from_source",
        "cells_source",
        "bloodmnist_frozen_vs_full",
        "pneumoniamnist_two_phase",
        "breastmnist_two_phase",
        "bloodmnist_augmented",
        "chest_xray_three_strategies",
        "chest_xray_grayscale",
        "chest_xray_vgg16_keras",
        "chest_xray_mobilenetv2_two_phase",
        "chest_xray_pneumonia",
        "image_folder_toy",
    }


def test_arms_override_the_base_key_by_key(recipe_file):
    recipe = load_recipe(recipe_file)
    assert recipe.name == "mine"
    assert recipe.arms["a"].train == TrainConfig(
        strategy="full", options={"epochs": 2, "learning_rate": 0.5}
    )
    assert recipe.arms["b"].train == TrainConfig(
        strategy="frozen", options={"epochs": 7, "learning_rate": 0.5}
    )


def test_flags_override_every_arm(recipe_file):
    overrides = {"train": {"options": {"epochs": 1}}, "data": {"image_size": 32}}
    recipe = load_recipe(recipe_file, overrides)
    for config in recipe.arms.values():
        assert config.train.options == {"epochs": 1, "learning_rate": 0.5}
        assert config.data.image_size == 32


def test_flags_for_one_arm_win_over_those_for_all(recipe_file):
    own = {"b": {"train": {"batch_size": 4}}}
    recipe = load_recipe(recipe_file, {"train": {"batch_size": 8}, "arms": own})
    assert recipe.arms["a"].train.batch_size == 8
    assert recipe.arms["b"].train.batch_size == 4
    with pytest.raises(InputError, match="Unknown arm of mine 'c'"):
        load_recipe(recipe_file, {"arms": {"c": {}}})


def test_chosen_arms_keep_the_order_of_the_file_and_their_numbers(recipe_file):
    recipe = load_recipe(recipe_file, arms=["b"])
    assert list(recipe.arms) == ["b"]
    assert recipe.order == ("a", "b")
    assert [e.value for e in recipe.expect] == [0.9]
    assert load_recipe(recipe_file, arms=["a"]).expect == ()


def test_a_run_written_as_toml_is_the_same_run_as_a_recipe(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, {"train": {"seeds": [3, 4]}})
    table = recipe.table("b", 4)
    path = tmp_path / "config.toml"
    path.write_text(format_toml(table))
    again = load_recipe(path)
    assert again.table("b", 4) == table
    assert list(again.arms) == ["b"]
    assert again.arms["b"].train.seeds == (4,)
    assert again.expect == recipe.expect
    assert tomllib.loads(path.read_text())["train"]["strategy"] == "frozen"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[arms.b]", "[arms.'../b']", "because it names a folder"),
        ('source = "cells"', 'sorce = "cells"', "Did you mean 'source'?"),
        ("epochs = 7", "epochs = 7\ntrain.sedes = [1]", "Did you mean 'seeds'?"),
        ('arm = "b"', 'arm = "bb"', "arm of an [[expect]] 'bb'"),
        ("value = 0.9", 'value = "0.9"', "must be a number or a list of numbers"),
        ('metric = "test_auroc"', 'metrik = "x"', "Did you mean 'metric'?"),
        ('source = "a paper"', "", "an [[expect]] has no source"),
        ("[data]", 'name = "a/b/c"\n[data]', "because it names a folder"),
        ("[data]", 'name = "a/.."\n[data]', "because it names a folder"),
        ("[data]", "arms = 3\n[data]", "is not valid TOML"),
    ],
)
def test_mistakes_in_a_recipe_are_sentences(recipe_file, old, new, expected):
    with pytest.raises(InputError) as caught:
        load_recipe(changed(recipe_file, old, new))
    assert expected in str(caught.value)
    assert "mine.toml" in str(caught.value) or "expect" in expected


def test_unknown_names_suggest_the_nearest(recipe_file, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'quickstart'"):
        find_recipe("quickstrat")
    with pytest.raises(InputError, match="There is no recipe file"):
        find_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"Unknown arm of mine 'c'\. Known: a, b"):
        load_recipe(recipe_file, arms=["c"])


def test_needs_come_first_and_once_each(tmp_path):
    data = '[data]\nsource = "cells"\n'
    (tmp_path / "base.toml").write_text(data)
    (tmp_path / "left.toml").write_text(f'needs = ["base.toml"]\n{data}')
    (tmp_path / "right.toml").write_text(f'needs = ["base.toml"]\n{data}')
    top = tmp_path / "top.toml"
    top.write_text(f'needs = ["left.toml", "right.toml"]\n{data}')
    names = [recipe.name for recipe in needed_recipes(load_recipe(top))]
    assert names == ["base", "left", "right"]


def test_recipes_that_need_each_other_are_refused(tmp_path):
    data = '[data]\nsource = "cells"\n'
    (tmp_path / "a.toml").write_text(f'needs = ["b.toml"]\n{data}')
    (tmp_path / "b.toml").write_text(f'needs = ["a.toml"]\n{data}')
    with pytest.raises(InputError, match="need each other: a needs b needs a"):
        needed_recipes(load_recipe(tmp_path / "a.toml"))


def test_merging_leaves_its_arguments_as_they_were():
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    merged = merge_tables(base, {"a": {"b": 9}, "d": {"e": 1}})
    assert merged == {"a": {"b": 9, "c": 2}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_table_of_a_list_is_changed_by_its_number():
    base = {"phases": [{"epochs": 1, "rate": 2}, {"epochs": 3}]}
    merged = merge_tables(base, {"phases": {"1": {"epochs": 9}, "2": {"rate": 4}}})
    assert merged == {"phases": [{"epochs": 9, "rate": 2}, {"epochs": 3, "rate": 4}]}
    assert base == {"phases": [{"epochs": 1, "rate": 2}, {"epochs": 3}]}
    with pytest.raises(InputError, match=r"table in phases '3'. Known: 1, 2"):
        merge_tables(base, {"phases": {"3": {"epochs": 9}}})
    with pytest.raises(InputError, match=r"table in seeds '1'"):
        merge_tables({"seeds": [0]}, {"seeds": {"1": {}}})
