"""The command `advise`: what it prints, its exit codes, and that it writes nothing."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from jaxmed.config.recipes import load_recipe
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.commands.advise import weigh_classes
from jaxmed.experiments.pipeline.prepare import check_arm
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy
from jaxmed.training.model_selection import check_defined

RECIPE = """
[data]
source = "npz:{folder}/data.npz"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 4
[arms.scratch]
train.strategy = "full"
[arms.transfer]
model.weights = "file:{folder}/pretrained.safetensors"
train.strategy = "frozen"
"""


def draw(folder: Path, labels: list[int] | np.ndarray = (0, 1, 1, 1, 1) * 8) -> None:
    rng, made = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
        column = np.asarray(labels)
        made[f"{split}_labels"] = column if column.ndim == 2 else column[:, None]
    np.savez(folder / "data.npz", **made)


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


@pytest.fixture
def weights(tmp_path):
    from jaxmed.models.registry import create_model
    from jaxmed_convert import to_torch

    model = create_model("resnet10_narrow", num_classes=2)
    tensors = {name: t.contiguous() for name, t in to_torch(model).items()}
    save_file(tensors, tmp_path / "pretrained.safetensors")


@pytest.fixture
def advised(recipe, capsys):
    """Runs the command and returns what it prints, one space between words."""

    def run(*flags: str, code: int = 0, raw: bool = False) -> str:
        assert main(["advise", str(recipe), *flags]) == code
        captured = capsys.readouterr()
        said = captured.err if code else captured.out
        assert "Traceback" not in captured.err
        return said if raw else " ".join(said.split())

    return run


def test_facts_advice_reasons_and_sources(advised, weights):
    said = advised()
    assert "Arm: transfer (npz:" in said
    assert "Size: small, 40 training images" in said
    assert "Balance: 4 to 1; of 2 classes the rarest, 0, has 8 training images" in said
    assert "fewest of a class in validation: 8" in said
    assert "resnet10_narrow, 0.3 million parameters" in said
    # Random weights keep BatchNorm's first statistics, which are far from anything's.
    assert "different: distance " in said
    assert "A rough measure" in said
    assert "Start with frozen: epochs 20" in said
    assert "hardest case" in said
    assert "AUPRC" in said
    assert "[Yosinski et al. 2014]" in said
    assert "How Transferable Are Features in Deep Neural Networks?" in said


@pytest.mark.parametrize(
    "flags",
    [("--domain", "similar"), ("--domain", "different"), ("--arm", "scratch")],
)
def test_the_recipe_that_it_prints_is_one(advised, recipe, flags):
    printed = advised(*flags, raw=True)
    snippet = printed[printed.index('name = "mine_advised"') :]
    path = recipe.with_name("mine_advised.toml")
    path.write_text(snippet)
    loaded = load_recipe(path)
    own = load_recipe(recipe).arms
    assert loaded.order[0] == "advised"
    expected = {"scratch": 1, "similar": 2, "different": 3}[flags[1]]
    assert len(loaded.order) == expected
    for arm, config in loaded.arms.items():
        check_arm(config, arm)
        assert config.data == own["transfer"].data
        assert config.train.batch_size == 4
        assert config.train.select == "val_loss", "8 validation images of a class"
    start = own["scratch" if "scratch" in flags else "transfer"]
    assert loaded.arms["advised"].model == start.model


def test_the_recipe_that_it_prints_runs(advised, recipe, tmp_path):
    snippet = advised("--arm", "scratch", raw=True).partition("name = ")[2]
    path = tmp_path / "printed.toml"
    path.write_text(f"name = {snippet}")
    assert tomllib.loads(path.read_text())["arms"]["advised"]
    words = ["run", str(path), "--out", str(tmp_path / "out")]
    flags = ["--train.options.epochs", "1", "--evaluate.resamples", "100"]
    assert main([*words, *flags, "--explain.images", "0"]) == 0
    assert (tmp_path / "out" / "mine_advised" / "report.html").is_file()


def test_domain_needs_no_weights(advised):
    said = advised("--domain", "similar")
    assert "similar, as --domain says" in said
    assert "hardest case" not in said


def test_without_weights_it_says_what_it_assumes(advised):
    said = advised("--arm", "scratch")
    assert "different, which is assumed" in said
    assert "there are no pretrained weights" in said
    assert "Start with full" in said


def test_a_backbone_without_batch_normalization_is_not_measured(advised, tmp_path):
    from torch import save
    from torchvision.models import convnext_tiny

    save(convnext_tiny().state_dict(), tmp_path / "convnext.pth")
    said = advised(
        *("--model.backbone", "convnext_tiny"),
        *("--arms.transfer.model.weights", f"file:{tmp_path}/convnext.pth"),
    )
    assert "different, which is assumed" in said
    assert "no BatchNorm to measure it by" in said
    assert "lighter backbone" in said


def test_nothing_is_written_but_the_cache(advised, weights, tmp_path):
    before = sorted(tmp_path.iterdir())
    advised("--domain", "different")
    assert sorted(tmp_path.iterdir()) == before
    advised()
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "cache"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "pretrained.safetensors"),
        ((), "With --domain no weights are needed."),
        (("--arm", "transfr"), "Did you mean 'transfer'?"),
        (("--domain", "near"), "invalid choice: 'near'"),
        (("--data.source", "npz:nowhere.npz"), "nowhere.npz does not exist"),
        (("--model.backbone", "resnet81"), "Did you mean 'resnet18'?"),
        (("--data.image-sise", "8"), "Did you mean --data.image-size?"),
    ],
)
def test_bad_input_is_a_sentence(advised, flags, expected, tmp_path):
    before = sorted(tmp_path.iterdir())
    said = advised(*flags, code=2)
    assert said.startswith("Error: ")
    assert expected in said
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_recipe(capsys):
    assert main(["advise", "quickstrt"]) == 2
    assert "Did you mean 'quickstart'?" in capsys.readouterr().err


@pytest.mark.parametrize("known", [0, 1, None])
def test_auroc_needs_known_labels_of_both_kinds_to_choose(tmp_path, recipe, known):
    from jaxmed.data import load_dataset

    labels = np.random.default_rng(0).integers(-1, 2, (20, 2))
    if known is not None:
        labels[:, 1] = np.where(labels[:, 1] == known, known, -1)
    draw(tmp_path, labels)
    data = load_dataset(f"npz:{tmp_path / 'data.npz'}")
    strategy = create_strategy("frozen", create_model("resnet18", num_classes=2))
    if known is None:
        check_defined(data, strategy, "val_auroc")
    else:
        which = "but of 1" if known else "of 1"
        with pytest.raises(InputError, match=rf"has no image {which}\. Go by val_loss"):
            check_defined(data, strategy, "val_auroc")


def test_the_balance_of_a_set_with_several_labels(tmp_path):
    from jaxmed.data import load_dataset
    from jaxmed.data.dataset import MISSING

    labels = np.zeros((20, 3), int)
    labels[:10, 0] = labels[:5, 1] = labels[:2, 2] = 1
    draw(tmp_path, labels)
    data = load_dataset(f"npz:{tmp_path / 'data.npz'}")
    assert data.task == "multilabel"
    balance = weigh_classes(data)
    assert (balance.rarest, balance.smallest, balance.ratio) == ("2", 2, 9.0)
    data.train.labels[12:, 2] = MISSING
    balance = weigh_classes(data)
    assert (balance.rarest, balance.smallest, balance.ratio) == ("2", 2, 5.0)


def test_a_class_that_validation_lacks_does_not_choose_by_auroc(advised, tmp_path):
    made = dict(np.load(tmp_path / "data.npz"))
    made["val_labels"][:] = 1
    np.savez(tmp_path / "data.npz", **made)
    printed = advised("--domain", "similar", raw=True)
    assert "fewest of a class in validation: 0" in " ".join(printed.split())
    path = tmp_path / "printed.toml"
    path.write_text(printed[printed.index('name = "') :])
    from jaxmed.data import load_dataset

    config = load_recipe(path).arms["advised"]
    data = load_dataset(config.data.source, image_size=config.data.image_size)
    strategy = create_strategy("frozen", create_model("resnet18", num_classes=2))
    check_defined(data, strategy, config.train.select)
