"""The command `find-lr`: its files, its exit codes, and that it touches no run."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.experiments.__main__ import main

RECIPE = """
[data]
source = "npz:{folder}/data.npz"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 8
[evaluate]
resamples = 100
[explain]
images = 0
[arms.two_phase]
train.strategy = "two_phase"
train.options = {{ head_epochs = 1, epochs = 1, learning_rate = 1e-3 }}
[arms.frozen]
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
[arms.again]
model.weights = "run:mine/frozen/seed-0"
train.strategy = "frozen"
"""


def draw(path: Path) -> None:
    rng, made = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        labels = np.arange(20) % 2
        images = rng.integers(0, 100, (20, 28, 28)) + 100 * labels[:, None, None]
        made[f"{split}_images"] = images.astype(np.uint8)
        made[f"{split}_labels"] = labels[:, None]
    np.savez(path, **made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Recipe, images, and in `out` the finished run of an arm."""
    folder = tmp_path_factory.mktemp("find-lr")
    draw(folder / "data.npz")
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(folder=folder))
    flags = ("--out", str(folder / "out"), "--arms", "frozen")
    assert main(["run", str(recipe), *flags]) == 0
    return folder


def find(folder: Path, *flags: str, out: str = "out") -> int:
    words = ["find-lr", str(folder / "mine.toml"), "--out", str(folder / out)]
    return main([*words, "--steps", "12", *flags])


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_table_curves_and_picture(folder, capsys):
    assert find(folder, out="new") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    header = lines.index("phase  group  in the recipe  steepest  valley")
    assert lines[header + 1].split()[:3] == ["head", "head", "1e-3"]
    assert lines[header + 2].split()[:3] == ["all", "all", "1e-3"]
    assert "Later phases were tested from the starting weights too" in said
    made = folder / "new" / "mine" / "find-lr"
    assert lines[-1] == f"Picture: {made}/two_phase.png"
    files = [path for path in (folder / "new").rglob("*") if path.is_file()]
    assert sorted(files) == [made / "two_phase.csv", made / "two_phase.png"]
    with Image.open(made / "two_phase.png") as picture:
        assert picture.width > picture.height > 300
    with (made / "two_phase.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["phase", "group", "rate", "loss", "smoothed"]
    assert {(row["phase"], row["group"]) for row in rows} == {
        ("head", "head"),
        ("all", "all"),
    }
    rates = [float(row["rate"]) for row in rows if row["phase"] == "all"]
    np.testing.assert_allclose(rates, np.geomspace(1e-7, 1, 12)[: len(rates)])


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize("arm", ["frozen", "again"])
def test_runs_stay_bit_identical(folder, capsys, state, arm):
    run = folder / "out" / "mine" / "frozen" / "seed-0"
    metrics = (run / "metrics.json").read_bytes()
    if state == "unfinished":
        (run / "metrics.json").unlink()
    before = contents(folder / "out" / "mine" / "frozen")
    code = find(folder, "--arm", arm)
    said = capsys.readouterr()
    assert contents(folder / "out" / "mine" / "frozen") == before
    (run / "metrics.json").write_bytes(metrics)
    if (arm, state) == ("again", "unfinished"):
        assert code == 2
        assert "is not finished: it has no metrics.json. `run " in said.err
    else:
        assert code == 0
        # What it left beside the arms is no arm.
        words = ["run", str(folder / "mine.toml"), "--out", str(folder / "out")]
        assert main([*words, "--arms", "frozen"]) == 0
        assert "Finished already, skipped" in capsys.readouterr().out


def test_flags_change_what_is_tested(folder, capsys):
    flags = ("--train.strategy", "backbone_and_head", "--train.options.epochs", "1")
    flags += ("--train.options.head-learning-rate", "0.02")
    # Options of the recipe's strategy that this one does not have.
    assert find(folder, *flags, out="flags") == 2
    assert "head_epochs" in capsys.readouterr().err
    assert not (folder / "flags").exists()
    rate = ("--train.options.learning-rate", "0.02")
    assert find(folder, "--arm", "again", *rate) == 0
    assert "head   head   2e-2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--steps", "9"), "Arm two_phase: steps must be at least 10, got 9."),
        (("--steps", "many"), "invalid int value: 'many'"),
        (("--arm", "two_fase"), "Did you mean 'two_phase'?"),
        (("--arm", "again"), "there is no run there"),
        (("--data.source", "npz:nowhere.npz"), "nowhere.npz does not exist"),
        (("--train.bach-size", "8"), "Did you mean --train.batch-size?"),
        (("--train.options.learning-rate", "0"), "'all': all learning rates are 0"),
    ],
)
def test_bad_input_is_a_sentence(folder, capsys, flags, expected):
    assert find(folder, *flags, out="refused") == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert expected in said
    assert not (folder / "refused").exists()


def test_output_that_is_a_file(folder, capsys):
    (folder / "file").write_text("kept")
    assert find(folder, out="file") == 2
    assert f"{folder}/file is a file." in capsys.readouterr().err
    assert (folder / "file").read_text() == "kept"
