"""Strategies of a package that jaxmed knows nothing of, installed and run for real."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import load_best_weights
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy, options_of
from jaxmed.strategies.registry import installed_strategies

PACKAGE = Path(__file__).parent / "foreign"
RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 8
[evaluate]
resamples = 100
[explain]
images = 0
[arms.function]
train.strategy = "foreign_strategies.stems:last_two"
train.options = {{ epochs = 2, schedule = {{ name = "cosine", final = 0.1 }} }}
[arms.class]
train.strategy = "foreign_strategies.stems:HeadOnly"
[arms.entry_point]
train.strategy = "foreign_stem"
train.options = {{ rate = 0.02 }}
"""


def environment(site: Path) -> dict[str, str]:
    paths = (str(site), os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder that pip installed the foreign package into."""
    pytest.importorskip("hatchling", reason="hatchling builds the package")
    # Where building leaves nothing behind.
    source = tmp_path_factory.mktemp("source") / "foreign"
    shutil.copytree(PACKAGE, source)
    package = source / "foreign_strategies"
    (package / "wants_more.py").write_text("import a_package_that_is_not_there\n")
    (package / "unfinished.py").write_text("def strategy(model:\n")
    folder = tmp_path_factory.mktemp("site")
    flags = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install")
    done = subprocess.run(
        [*pip, *flags, "--target", str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(site, monkeypatch):
    """The package within reach of this process too."""
    monkeypatch.syspath_prepend(site)
    return "foreign_strategies.stems"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 16), ("val", 8), ("test", 8)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 100, (count, 28, 28)) + 100 * labels[:, None, None]
        arrays[f"{name}_images"] = images.astype(np.uint8)
        arrays[f"{name}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(folder / "drawn.npz", **arrays)
    path = folder / "foreign.toml"
    path.write_text(RECIPE.format(data=folder / "drawn.npz"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(site, recipe) -> Path:
    """The folder of the recipe's runs, made by the command line alone."""
    words = ["-m", "jaxmed.experiments", "run", recipe.name, "--out", "out"]
    done = subprocess.run(
        [sys.executable, *words, "--arms.class.train.options.rate", "0.03"],
        cwd=recipe.parent,
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return recipe.parent / "out" / "foreign"


@pytest.mark.parametrize(
    ("arm", "rates", "trained"),
    [
        (
            "function",
            {"layer4": 1e-2, "head": 1e-3},
            ("backbone.layer4.", "head."),
        ),
        ("class", {"head": 0.03}, ("head.",)),
        ("entry_point", {"stem": 0.02, "head": 0.02}, ("backbone.conv1.", "head.")),
    ],
)
def test_it_runs_from_the_command_line_by_each_of_its_names(
    finished, arm, rates, trained
):
    folder = finished / arm / "seed-0"
    written = json.loads((folder / "environment.json").read_text("utf-8"))
    (phase,) = written["parameters"]["phases"]
    assert {g["name"]: g["learning_rate"] for g in phase["groups"]} == rates
    cosine = "cosine by step to 0.1 of it"
    assert phase["schedule"] == (cosine if arm == "function" else "constant")

    best, _ = load_best_weights(folder / "checkpoints")
    _, params, stats = split(create_model("resnet10_narrow", num_classes=2, seed=0))
    assert best.keys() == (params | stats).keys()
    changed = {
        path
        for path, array in (params | stats).items()
        if not np.array_equal(array, best[path])
    }
    assert changed == {path for path in best if path.startswith(trained)}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--arms.function.train.options.epoch", "1"), "Did you mean 'epochs'?"),
        (("--arms.class.train.options.rates", "1"), "Did you mean 'rate'?"),
        (("--arms.entry_point.train.options.rat", "1"), "Did you mean 'rate'?"),
        (("--arms.class.train.options.rate", "high"), "must be a number, got 'high'"),
        (
            ("--arms.function.train.options.rates", "[1, 'x']"),
            "'rates' of strategy 'foreign_strategies.stems:last_two' must be a list, "
            "each a number, got [1, 'x'].",
        ),
        (
            ("--arms.function.train.options.floor", "low"),
            "'floor' of strategy 'foreign_strategies.stems:last_two' must be a number "
            "or none, got 'low'.",
        ),
        (
            ("--arms.function.train.options.kind", "fancier"),
            "must be one of 'plain', 'fancy', got 'fancier'",
        ),
        (("--arms.function.train.options.schedule", "3"), "a text or a table, got 3"),
        (("--arms.function.train.options.schedule", "cosin"), "mean 'cosine'?"),
        (
            ("--arms.class.train.strategy", "foreign_stem"),
            "Strategy 'foreign_stem' needs the option 'rate'.",
        ),
        (("--arms.class.train.strategy", "foreign_sten"), "mean 'foreign_stem'?"),
        (
            ("--arms.class.train.strategy", "foreign_broken"),
            "No module named 'foreign_strategies.gone'. Install its package",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stem:HeadOnly"),
            "No module named 'foreign_strategies.stem'. Install its package",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stems:HeadsOnly"),
            "has no function 'HeadsOnly', but one_phase, last_two, HeadOnly",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stems:constant"),
            "has no function 'constant'",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stems.HeadOnly"),
            "named package.module:function, with a colon",
        ),
        (
            ("--arms.class.train.strategy", "./foreign_strategies/stems.py:HeadOnly"),
            "is not of the form package.module:function",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stems:no_strategy"),
            "returned a dict; it must return a jaxmed.strategies.Strategy",
        ),
        (
            ("--arms.class.train.strategy", "foreign_strategies.stems:NotCallable"),
            "give it a method __call__(self, model)",
        ),
        (
            (
                *("--arms.class.train.strategy", "foreign_strategies.stems:mistaken"),
                *("--arms.class.train.options.rate", "1"),
            ),
            "Unknown option of strategy 'foreign_strategies.stems:mistaken' 'rate'",
        ),
    ],
)
def test_wrong_names_and_options_are_sentences(
    here, recipe, tmp_path, capsys, flags, expected
):
    assert main(["run", str(recipe), *flags, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("stems:mistaken", ZeroDivisionError, "division by zero"),
        ("wants_more:strategy", ModuleNotFoundError, "a_package_that_is_not_there"),
        ("unfinished:strategy", SyntaxError, "never closed"),
    ],
)
def test_an_error_in_their_code_comes_out_as_it_is(
    here, recipe, tmp_path, name, error, message
):
    flags = ("--arms", "class", "--train.strategy", f"foreign_strategies.{name}")
    with pytest.raises(error, match=message):
        main(["run", str(recipe), *flags, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_their_settings_are_those_of_the_presets(here):
    name = f"{here}:with_settings"
    assert options_of(name) == options_of(name).replace(
        parameters=[
            options_of(name).parameters["stages"],
            *(options_of("full").parameters[key] for key in _settings()),
        ]
    )
    model = create_model("resnet10_narrow", num_classes=2)
    strategy = create_strategy(name, model, stages=2, optimizer="lion", patience=3)
    assert strategy.phases[0].patience == 3
    assert [group.name for group in strategy.phases[0].groups] == [
        "layer3",
        "layer4",
        "head",
    ]
    with pytest.raises(InputError, match="Did you mean 'optimizer'"):
        create_strategy(name, model, optimzer="lion")
    with pytest.raises(
        InputError, match=r"'patience' .* must be a whole number or non"
    ):
        create_strategy(name, model, patience=0.5)


def _settings() -> list[str]:
    own = ("epochs", "learning_rate")
    return [key for key in options_of("full").parameters if key not in own]


def test_they_are_listed(here, capsys):
    assert {"foreign_stem", "foreign_broken"} <= installed_strategies().keys()
    assert main(["list", "--strategies"]) == 0
    text = capsys.readouterr().out
    assert "  foreign_stem\n      Trains both ends.\n      rate (a number, req" in text
    assert "  foreign_broken\n      cannot be loaded: " in text
    assert main(["list", "--strategies", f"{here}:last_two"]) == 0
    text = capsys.readouterr().out
    assert 'rates = [0.01, 0.001], schedule = "constant", floor = None' in text
    assert "Trains layer4 and the head" in text


def test_they_are_parts_of_a_sequence(here):
    model = create_model("resnet10_narrow", num_classes=2)
    phases = [
        {"strategy": "foreign_stem", "rate": 0.1},
        {"strategy": "partial", "stages": 1, "schedule": {"name": "one_cycle"}},
        {"strategy": f"{here}:HeadOnly", "epochs": 2},
    ]
    made = create_strategy("sequence", model, phases=phases)
    names = [(phase.name, phase.epochs) for phase in made.phases]
    assert names == [("stem_and_head", 1), ("partial", 5), ("head_only", 2)]
    phases[2]["epochs"] = "two"
    with pytest.raises(InputError, match=r"^Part 3 .*'epochs' .* must be a whole num"):
        create_strategy("sequence", model, phases=phases)
