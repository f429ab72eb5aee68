"""`validate`, and ensembles: runs on images of another source, one or all of an arm."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import log_loss, recall_score, roc_auc_score, roc_curve

import jaxmed
from jaxmed.errors import InputError
from jaxmed.evaluation.predictions_csv import read_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.inference.external_validation import TrainedOnImages

RECIPE = """
name = "own"
[data]
source = "folder:{source}"
image_size = 28
group_pattern = "(p\\\\d+)_"
[model]
backbone = "resnet10_narrow"
[train]
strategy = "full"
options = {{ epochs = 1, learning_rate = 1e-3 }}
seeds = [0, 1]
[evaluate]
resamples = 100
calibration = "platt"
[explain]
images = 1
[arms.main]
"""


def draw(folder: Path, names: dict[str, int], seed: int, *, gray=True) -> None:
    """Draws as many images of each class; those of the last class are brighter."""
    rng = np.random.default_rng(seed)
    for place, (name, count) in enumerate(names.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            shape = (28, 28) if gray else (28, 28, 3)
            top = 130 + 60 * (place > 0) + 20 * (i % 4)
            pixels = rng.integers(0, top, shape).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"p{seed}{place}{i:02d}_x.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two trained runs of one arm, and sources of several kinds."""
    folder = tmp_path_factory.mktemp("validated")
    for seed, (split, count) in enumerate({"train": 12, "val": 12, "test": 12}.items()):
        draw(folder / "own" / split, {"ILL": count, "WELL": count}, seed)
    draw(folder / "other", {"ill": 21, "well": 23}, 7)
    draw(folder / "kinds", {"ill": 9, "mild": 8, "severe": 7, "unsure": 3}, 8)
    draw(folder / "color", {"ILL": 4, "WELL": 4}, 9, gray=False)
    (folder / "own.toml").write_text(RECIPE.format(source=folder / "own"))
    command = ["run", str(folder / "own.toml"), "--out", str(folder / "out")]
    assert main(command) == 0
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of the first run, which tests may change."""
    shutil.copytree(folder / "out" / "own" / "main", tmp_path / "main")
    return tmp_path / "main" / "seed-0"


def validate(run: Path, *words: str) -> int:
    return main(["validate", str(run), *words, "--draws", "2"])


def measure(run, data, **options):
    return jaxmed.validate(run, data, draws=2, **options)


def read(path: Path):
    return json.loads(path.read_text())


def predictions_of(folder: Path, split="test"):
    metrics = read(folder / "metrics.json")
    path, names = folder / "predictions.csv", metrics["class_names"]
    return read_predictions(path, class_names=names, task=metrics["task"])[split]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "validation" not in path.parts
    }


def test_every_number_is_of_the_runs_own_threshold_and_calibration(folder, run):
    before = contents(run)
    assert validate(run, f"folder:{folder}/other", "--name", "b") == 0
    # The run stays as it is, bit by bit.
    assert contents(run) == before
    own, found = read(run / "metrics.json"), read(run / "validation/b/metrics.json")
    assert found["threshold"] == own["threshold"]
    for part in ("method", "scale", "bias", "chosen_on"):
        assert found["calibration"][part] == own["calibration"][part]
    predictions = predictions_of(run / "validation/b")
    truth, scores = predictions.labels, predictions.probs[:, 1]
    assert len(truth) == 44
    assert truth.sum() == 23
    auroc = found["test"]["auroc"]["value"]
    assert auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    said = scores >= own["threshold"]["value"]
    at = found["test_at_threshold"]
    assert at["sensitivity"]["value"] == pytest.approx(recall_score(truth, said))
    scaled = jaxmed.load_model(run).scaling.apply(predictions)
    loss = found["calibration"]["test"]["log_loss_calibrated"]["value"]
    assert loss == pytest.approx(log_loss(truth, scaled), abs=1e-9)
    difference = found["difference"]["test"]["auroc"]
    assert difference["value"] == auroc - own["test"]["auroc"]["value"]
    assert difference["ci_low"] < difference["value"] < difference["ci_high"]
    assert found["validation"]["out_of_distribution"]["share"]["value"] is not None
    page = (run / "validation/b/report.html").read_text()
    assert "What would change it" in page
    assert "ill counts as ILL" in page


def test_images_are_prepared_as_predict_prepares_them(folder, run):
    found = measure(run, f"folder:{folder}/other")
    files = [str(folder / "other" / name) for name in found.predictions.ids]
    predicted = found.predictor.predict(files)
    scaled = found.predictor.scaling.apply(found.predictions)
    expected = [list(one.probs.values()) for one in predicted]
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_labels_of_the_set_decide_nothing(folder, run):
    data = f"folder:{folder}/other"
    one = measure(run, data)
    mapping = {"ill": "WELL", "well": "ILL"}
    other = measure(run, data, mapping=mapping)
    np.testing.assert_array_equal(one.predictions.probs, other.predictions.probs)
    assert (one.predictions.labels == 1 - other.predictions.labels).all()
    for part in ("threshold", "tta"):
        assert one.metrics[part] == other.metrics[part]
    for part in ("scale", "bias"):
        assert one.metrics["calibration"][part] == other.metrics["calibration"][part]
    ood = "out_of_distribution"
    assert one.metrics["validation"][ood] == other.metrics["validation"][ood]
    auroc = [v.metrics["test"]["auroc"]["value"] for v in (one, other)]
    assert auroc[0] == pytest.approx(1 - auroc[1])


def test_classes_are_mapped_or_left_out(folder, run, capsys):
    words = ["--map", "WELL=mild,WELL=severe,=unsure", "--name", "c"]
    assert validate(run, f"folder:{folder}/kinds", *words) == 0
    found = read(run / "validation/c/metrics.json")
    assert found["test"]["n"] == 24
    assert found["per_class"]["test"]["WELL"]["support"] == 15
    printed = capsys.readouterr().out
    assert "Mild counts as WELL." in printed
    assert "3 images left out by the mapping." in printed
    assert "AUROC, external − internal" in printed


REFUSED = {
    "unknown classes": (["kinds"], "has the classes mild, severe, unsure"),
    "unknown name": (["other", "--map", "ILL=bad"], "Unknown class of"),
    "no equals sign": (["other", "--map", "ILL"], "--map takes CLASS=NAME"),
    "one class": (["other", "--map", "ILL=ill,=well"], "images of ILL only"),
    "channels": (["color"], "has RGB images, and the run was trained on gray"),
    "no such split": (["own", "--split", "dev"], "Unknown split"),
    "folder name": (["other", "--name", "a/b"], "--name 'a/b' must be"),
    "allow": (["other", "--allow", "all"], "allow takes overlap and channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_a_sentence_and_writes_nothing(folder, run, name, capsys):
    (source, *words), sentence = REFUSED[name]
    assert validate(run, f"folder:{folder}/{source}", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (run / "validation").exists()


def test_images_and_patients_of_training_are_refused(folder, run, tmp_path, capsys):
    source = f"folder:{folder}/own"
    assert validate(run, source, "--split", "train") == 1
    said = capsys.readouterr().err
    assert "trained or selected on 24 images (such as train/ILL/p0000_x.png)" in said
    assert not (run / "validation").exists()
    # Its own test was not trained on, but it is not independent of itself.
    own = measure(run, source, splits=["test"])
    assert (
        "24 images are in the run's own test too"
        in own.metrics["validation"]["notes"][0]
    )
    # The same pixels under another name, and another image of a patient.
    copied = tmp_path / "copied"
    shutil.copytree(folder / "other", copied)
    shutil.copy(folder / "own/val/ILL/p1003_x.png", copied / "ill/another.png")
    with pytest.raises(TrainedOnImages, match=r"1 image \(such as ill/another.png\)"):
        measure(run, f"folder:{copied}")
    (copied / "ill/another.png").unlink()
    shutil.copy(copied / "ill/p7000_x.png", copied / "ill/p0003_y.png")
    measure(run, f"folder:{copied}")
    with pytest.raises(TrainedOnImages, match=r"1 patient \(such as p0003\)"):
        measure(run, f"folder:{copied}", group_pattern=r"(p\d+)_")
    allowed = measure(run, source, splits=["train"], allow=["overlap"])
    assert any("selected on" in n for n in allowed.metrics["validation"]["notes"])


def test_an_arm_is_an_ensemble(folder, run, capsys):
    arm, out = run.parent, run.parent / "rows.csv"
    files = sorted(map(str, (folder / "other/ill").iterdir()))
    assert main(["predict", str(arm), *files, "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    members = [jaxmed.load_model(path) for path in sorted(arm.glob("seed-*"))]
    ensemble = jaxmed.load_model(arm)
    vals = [predictions_of(one.folder, "val") for one in members]
    mean = np.mean([val.probs[:, 1] for val in vals], axis=0)
    false, true, cuts = roc_curve(vals[0].labels, mean, drop_intermediate=False)
    threshold = ensemble.thresholds["WELL"]
    gains = true - false
    assert gains[np.isclose(cuts, threshold, rtol=1e-6)].max() == gains.max()
    raw = []
    for member in members:
        assert member.scaling is not None
        one = member.predict(files)
        scale, bias = member.scaling.scale[0], member.scaling.bias[0]
        logit = np.log([p.probs["WELL"] / p.probs["ILL"] for p in one])
        raw.append(1 / (1 + np.exp(-(logit - bias) / scale)))
    expected = np.mean(raw, axis=0)
    assert [row["decision"] == "WELL" for row in rows] == list(expected >= threshold)
    both = np.stack([1 - expected, expected], axis=1)
    scaled = ensemble.scaling.calibrate(both, "binary")[:, 1]
    found = [float(row["prob_WELL"]) for row in rows]
    np.testing.assert_allclose(found, scaled, atol=1e-5)
    words = ["--name", "b", "--map", "ILL=ill"]
    assert validate(arm, f"folder:{folder}/other", *words) == 0
    metrics = read(arm / "validation/b/metrics.json")
    gain = metrics["validation"]["ensemble"]["gain"]["log_loss"]
    probs = predictions_of(arm / "validation/b")
    each = [measure(one, f"folder:{folder}/other") for one in members]
    losses = [one.metrics["test"]["log_loss"]["value"] for one in each]
    # Of the true class: in float32 two probabilities do not add up to exactly 1.
    expected = -np.log(probs.probs[probs.truth]).mean() - np.mean(losses)
    assert gain["value"] == pytest.approx(expected, abs=1e-9)
    assert gain["ci_low"] < gain["value"] < gain["ci_high"]
    capsys.readouterr()


def test_an_ensemble_is_exported_as_one_program(run, capsys):
    arm = run.parent
    assert main(["export", str(arm), "--format", "stablehlo"]) == 0
    assert read(arm / "export/model.json")["members"] == 2
    assert main(["export", str(arm), "--format", "torch"]) == 2
    assert "holds one network" in capsys.readouterr().err


@pytest.mark.slow  # Ten seconds of torch's exporter; StableHLO's is the same average.
def test_an_ensemble_is_exported_to_onnx(run):
    pytest.importorskip("onnxruntime")
    assert main(["export", str(run.parent), "--format", "onnx"]) == 0


def test_members_that_differ_are_refused(run, capsys):
    arm = run.parent
    other = read(arm / "seed-1/environment.json")
    other["preprocessing"]["image_size"] = 32
    (arm / "seed-1/environment.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"cannot be one ensemble: .* preprocessing"):
        jaxmed.load_model(arm)
    shutil.rmtree(arm / "seed-1")
    assert main(["export", str(arm), "--format", "stablehlo"]) == 2
    assert "an ensemble needs two or more" in capsys.readouterr().err
