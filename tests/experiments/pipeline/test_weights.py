"""Starting weights, and the scale of the images that comes with them."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.weights import load_start
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model

HALF = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[evaluate]
resamples = 100
[explain]
images = 0
[arms.first]
train.strategy = "frozen"
train.options = {{ epochs = 1, batch_norm = "train" }}
[arms.second]
model.mean = []
model.std = []
model.weights = "run:shades/first/seed-0"
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
[arms.gray]
model.in_channels = 1
model.mean = [0.5]
model.std = [0.25]
model.weights = "run:shades/first/seed-0"
train.strategy = "frozen"
train.options = {{ epochs = 1 }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a recipe, and in `out` its first two arms, finished."""
    folder = tmp_path_factory.mktemp("scale")
    arrays, random = {}, np.random.default_rng(0)
    for split_name in ("train", "val", "test"):
        labels = np.arange(12) % 2
        images = random.integers(0, 120, (12, 28, 28), dtype=np.uint8)
        images += (100 * labels).astype(np.uint8)[:, None, None]
        arrays |= {f"{split_name}_images": images, f"{split_name}_labels": labels}
    np.savez(folder / "shades.npz", **arrays)
    recipe = folder / "shades.toml"
    recipe.write_text(RECIPE.format(data=folder / "shades.npz"))
    assert run(folder, "--arms", "first,second") == 0
    return folder


def run(folder: Path, *flags: str) -> int:
    return main(["run", f"{folder}/shades.toml", "--out", f"{folder}/out", *flags])


def scale_in(run_folder: Path) -> tuple:
    found = json.loads((run_folder / "environment.json").read_text())["preprocessing"]
    assert found["image_size"] == 32
    assert found["channels"] == len(found["mean"])
    return tuple(found["mean"]), tuple(found["std"])


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ("first", "model.mean and model.std of the recipe"),
        ("second", "as in run:shades/first/seed-0"),
    ],
)
def test_the_scale_of_a_recipe_is_recorded_and_goes_on_to_the_next_run(
    folder, arm, reason
):
    """The second arm does not say it: it has it from the run it starts from."""
    run_folder = folder / "out" / "shades" / arm / "seed-0"
    assert scale_in(run_folder) == HALF
    weights = json.loads((run_folder / "environment.json").read_text())["weights"]
    assert weights["normalization"] == (
        f"mean 0.5, 0.5, 0.5 and std 0.25, 0.25, 0.25 ({reason})"
    )
    page = (folder / "out" / "shades" / "report.html").read_text("utf-8")
    assert f"images normalized by {weights['normalization']}" in page


def test_a_model_gets_weights_and_scale_of_a_run(folder):
    # Of another seed, because the run's stem may be as it was drawn.
    model = create_model("resnet10_narrow", num_classes=5, seed=5)
    before = split(model).params
    load_start(model, "run:shades/second/seed-0", folder / "out")
    assert (model.mean, model.std) == HALF
    after = split(model).params
    stem, head = "backbone.conv1.kernel", "head.out.kernel"
    assert not np.array_equal(before[stem], after[stem])
    assert np.array_equal(before[head], after[head])


def test_a_run_on_other_channels_is_refused(folder, tmp_path, capsys):
    gray = create_model("resnet10_narrow", num_classes=2, in_channels=1)
    with pytest.raises(InputError, match=r"with model\.in_channels 3, and model"):
        load_start(gray, "run:shades/first/seed-0", folder / "out")
    # So it is before the first of them is trained.
    assert main(["run", f"{folder}/shades.toml", "--out", f"{tmp_path}/out"]) == 2
    assert "will be for 3 channels, and model.in_channels is 1" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_weights_of_a_file_take_the_scale_of_the_recipe(folder, tmp_path):
    """As Inception V3's own files need it, whose images went from -1 to 1."""
    import torch

    from jaxmed_convert import to_torch

    path = tmp_path / "mine.ckpt"
    torch.save(to_torch(create_model("resnet10_narrow", num_classes=2)), path)
    flags = ["--arms", "first", "--model.weights", f"file:{path}"]
    out = ["--out", f"{tmp_path}/out", "--model.std", "0.5,0.5,0.5"]
    assert main(["run", f"{folder}/shades.toml", *flags, *out]) == 0
    place = tmp_path / "out" / "shades" / "first" / "seed-0"
    assert scale_in(place) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
