"""Exported files, opened as model.json says, against the run's own predictions."""

import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from jaxmed.checkpoints.checkpoint import load_best_weights
from jaxmed.errors import InputError
from jaxmed.experiments.__main__ import main
from jaxmed.export import formats as exporters
from jaxmed.export.verify import Probe, predict_images
from jaxmed.models.registry import create_model
from jaxmed.runs.trained_model import read_trained_model
from jaxmed_convert.export.torch_models import write_torch

PAGE = (Path(__file__).parents[3] / "docs" / "using_a_model.md").read_text("utf-8")

RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = {{ epochs = 1, learning_rate = 1e-2, batch_norm = "train" }}
[evaluate]
resamples = 100
[explain]
images = 1
"""
ARMS = {
    "binary": """
[arms.plain]
[arms.single]
model.head = "hidden"
model.single_logit = true
model.in_channels = 1
data.resize = "crop"
evaluate.tta = "ten_crop"
evaluate.calibration = "platt"
""",
    "multilabel": """
[arms.labels]
model.head = "dropout"
model.mean = [0.5, 0.4, 0.3]
evaluate.tta = "dihedral"
data.resize = "pad"
""",
}
RUNS = {"plain": "binary", "single": "binary", "labels": "multilabel"}
PARAMS = ["plain", "single", pytest.param("labels", marks=pytest.mark.slow)]
FORMATS = "torch,onnx,stablehlo,safetensors"
FILES = {"model.pth", "model.onnx", "model.stablehlo", "model.safetensors"}


def draw(path: Path, task: str) -> None:
    """Writes images of 28 x 28 whose channels' brightness tells the labels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        labels = rng.integers(0, 2, (count, 3 if task == "multilabel" else 1))
        images = rng.integers(0, 120, (count, 28, 28, 3), dtype=np.uint8)
        images += (60 * labels[:, None, None]).astype(np.uint8)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **arrays)


class Runs(dict[str, Path]):
    """Finished runs by arm, with their files in the folder export, once asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        for task, arms in ARMS.items():
            draw(folder / f"{task}.npz", task)
            recipe = RECIPE.format(data=folder / f"{task}.npz") + arms
            (folder / f"{task}.toml").write_text(recipe)

    def __missing__(self, arm: str) -> Path:
        task = RUNS[arm]
        recipe = str(self.folder / f"{task}.toml")
        assert main(["run", recipe, "--arms", arm, "--out", str(self.folder)]) == 0
        self[arm] = self.folder / task / arm / "seed-0"
        assert main(["export", str(self[arm]), "--format", FORMATS]) == 0
        return self[arm]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", params=PARAMS)
def run(runs, request) -> Path:
    return runs[request.param]


@pytest.fixture(scope="module")
def expected(run):
    """Images of a size no run has seen, and what the run's model says about them."""
    trained = read_trained_model(run)
    channels = trained.preprocessing.channels
    shape = (4, 61, 45, channels)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    return images, *predict_images(trained, images)


def execute(run: Path, file: str, monkeypatch, **names):
    """Runs the lines that model.json says, in the folder of the files."""
    record = json.loads((run / "export" / "model.json").read_text())
    monkeypatch.chdir(run / "export")
    exec("\n".join(record["files"][file]["load"]), names)
    return names


@pytest.mark.parametrize("file", ["model.onnx", "model.stablehlo"])
def test_programs_give_what_predict_gives_for_images_of_any_size(
    run, expected, file, monkeypatch
):
    images, *probs = expected
    found = execute(run, file, monkeypatch, images=images)
    names = ("probabilities", "scores")
    for name, ours in zip(names, probs, strict=True):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], ours, rtol=0, atol=1e-5)
    assert np.abs(probs[0] - probs[1]).max() > 1e-3
    one = execute(run, file, monkeypatch, images=images[2:3, :30])
    assert len(one["probabilities"]) == 1


def test_the_state_dict_loads_into_torchvisions_model(runs, monkeypatch):
    run = runs["plain"]
    trained = read_trained_model(run)
    found = execute(run, "model.pth", monkeypatch)
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    mean, std = (np.array(found[name], np.float32) for name in ("mean", "std"))
    seen = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32))
    with torch.inference_mode():
        logits = found["model"](seen.permute(0, 3, 1, 2))
    _, scores = predict_images(trained, images)
    np.testing.assert_allclose(logits.softmax(1).numpy(), scores, rtol=0, atol=1e-5)


def test_safetensors_hold_the_weights_of_the_best_epoch(run, monkeypatch):
    weights, _ = load_best_weights(run / "checkpoints")
    with safe_open(run / "export" / "model.safetensors", "numpy") as file:
        assert set(file.keys()) == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        assert json.loads(file.metadata()["class_names"]) == list(
            read_trained_model(run).class_names
        )
    model = execute(run, "model.safetensors", monkeypatch)["model"]
    assert model.head.out.bias[...].tolist() == weights["head.out.bias"].tolist()


def test_onnx_files_tell_classes_and_thresholds(run):
    metrics = json.loads((run / "metrics.json").read_text())
    model = onnx.load(run / "export" / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["task"] == metrics["task"]
    assert json.loads(told["class_names"]) == metrics["class_names"]
    thresholds = json.loads(told["thresholds"])["values"]
    value = metrics["threshold"]["value"]
    if metrics["task"] == "binary":
        value = {metrics["positive_class"]: value}
    assert thresholds == value
    assert str(Path(__file__).parents[3]) not in str(model)


def test_the_page_says_how_to_use_runs_and_files(runs, tmp_path, monkeypatch, capsys):
    in_python, saving, *loading = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    folder, images = runs["plain"], np.zeros((2, 40, 30, 3), np.uint8)
    trained = read_trained_model(folder)
    _, expected = predict_images(trained, images)

    monkeypatch.chdir(tmp_path)
    for name in ("scans/0.png", "more/1.png"):
        Path(name).parent.mkdir()
        Image.fromarray(images[0]).save(name)
    exec(in_python.replace("runs/own_images/frozen/seed-0", str(folder)), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["scans/0.png", "more/1.png"]

    assert "save_model" in saving
    monkeypatch.chdir(folder / "export")
    onnx_names, hlo_names, jaxmed_names = ({"images": images} for _ in range(3))
    exec(loading[0], onnx_names)
    np.testing.assert_allclose(onnx_names["scores"], expected, atol=1e-5)
    assert onnx_names["thresholds"]["values"] == trained.thresholds
    exec(loading[1], hlo_names)
    np.testing.assert_allclose(hlo_names["outputs"]["scores"], expected, atol=1e-5)
    exec(loading[3], jaxmed_names)
    assert jaxmed_names["model"].architecture == "resnet10_narrow"

    monkeypatch.chdir(tmp_path)
    model = create_model("resnet18", num_classes=2, seed=3)
    write_torch(model, Path("model.pth"), 64)
    found: dict = {}
    exec(loading[2], found)
    bias = found["model"].fc.bias.detach().numpy()
    np.testing.assert_array_equal(bias, np.asarray(model.head.out.bias[...]))


def test_programs_are_for_all_platforms(runs):
    from jax import export

    file = runs["plain"] / "export" / "model.stablehlo"
    program = export.deserialize(bytearray(file.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0].shape) == "(batch, height, width, 3)"


def test_a_later_export_leaves_what_is_known_of_the_files_before(runs, tmp_path):
    out = ["--out", str(tmp_path / "new" / "files")]
    for name in ("torch", "safetensors"):
        assert main(["export", str(runs["plain"]), "--format", name, *out]) == 0
    folder = tmp_path / "new" / "files"
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.pth", "model.safetensors", "model.json"}
    record = json.loads((folder / "model.json").read_text())
    assert record["files"].keys() == names - {"model.json"}


def test_a_file_that_differs_is_not_kept(runs, tmp_path, monkeypatch, capsys):
    def write(trained, path, record):
        # As a converter would that forgets the statistics of one layer.
        stats = trained.model.backbone.layer4[0].bn2.mean
        kept, stats[...] = stats[...], jnp.ones_like(stats[...])
        own(trained, path, record)
        stats[...] = kept

    exporter = exporters.EXPORTERS["torch"]
    own, wrong = exporter.write, exporter._replace(write=write)
    monkeypatch.setitem(exporters.EXPORTERS, "torch", wrong)
    out = tmp_path / "out"
    words = ["export", str(runs["plain"]), "--format", "safetensors,torch"]
    assert main([*words, "--out", str(out)]) == 2
    assert "model.pth is not kept: opened again" in capsys.readouterr().err
    assert not out.exists()


def test_a_comparison_notices_images_that_are_a_hundredth_darker(runs):
    trained = read_trained_model(runs["plain"])
    probe = Probe(trained)
    assert probe.compare(lambda images: predict_images(trained, images), "x") == 0

    def darker(images):
        return predict_images(trained, (images * 0.99).astype(np.uint8))

    with pytest.raises(InputError, match=r"x is not kept: .* differ from the model's"):
        probe.compare(darker, "x")
    with pytest.raises(InputError, match="by nan"):
        probe.compare(lambda images: [p * np.nan for p in darker(images)], "x")


def test_what_is_missing_is_named_with_its_extra(runs, monkeypatch, capsys):
    found = exporters.EXPORTERS["onnx"]._replace(packages=("torch", "no_such_onnx"))
    monkeypatch.setitem(exporters.EXPORTERS, "onnx", found)
    assert main(["export", str(runs["plain"]), "--format", "torch,onnx"]) == 2
    message = capsys.readouterr().err
    assert "onnx needs no_such_onnx" in message
    assert "pip install 'jaxmed[export]'" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onx"], "Unknown format 'onx'. Did you mean 'onnx'?"),
        (["--format", ""], "Unknown format ''. Known: hub, onnx"),
        ([], "--format"),
        (["--format", "torch", "--out", "{tmp}/file"], "file is a file."),
        (
            ["--format", "torch", "--out", "{tmp}/file/x"],
            "file is a file. Give another",
        ),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_lost(
    runs, tmp_path, words, message, capsys
):
    (tmp_path / "file").write_text("kept")
    words = [word.format(tmp=tmp_path) for word in words]
    assert main(["export", str(runs["plain"]), *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_only_finished_runs_are_exported(runs, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(runs["plain"], folder)
    (folder / "metrics.json").unlink()
    assert main(["export", str(folder), "--format", "torch"]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--format", "torch"]) == 2
    assert "There is no run folder" in capsys.readouterr().err
