"""`predict`: what a finished run says of files, and what becomes of bad ones."""

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxmed
from jaxmed.data.images.decode import decode
from jaxmed.data.images.resizing import Resizing
from jaxmed.errors import InputError
from jaxmed.evaluation.predictions_csv import read_predictions
from jaxmed.experiments.__main__ import main
from jaxmed.explain.explanation import explain
from jaxmed.explain.overlay import overlay
from jaxmed.runs.trained_model import read_trained_model

RECIPE = """
[data]
source = "{source}"
image_size = 28
[model]
backbone = "resnet10_narrow"
[train]
strategy = "full"
options = {{ epochs = 1, learning_rate = 1e-3 }}
select = "val_loss"
[evaluate]
resamples = 100
[explain]
images = 1
layer = "layer3"
"""
# In one of them all images are of one size, smaller than the square, and so resized on
# the device; in the others they are not.
RUNS = {
    "two_logits": ("sizes", ""),
    "single": (
        "small",
        'model.single_logit = true\nevaluate.calibration = "platt"\n'
        'data.resize = "crop"\nevaluate.tta = "five_crop"\n',
    ),
    "labels": ("table", 'evaluate.tta = "flip"\ndata.resize = "pad"\n'),
}
COUNTS = {"train": 10, "val": 8, "test": 7}


def draw(folder: Path) -> None:
    """Draws images whose class is their brighter channel, and a table of labels."""
    rng = np.random.default_rng(0)
    rows = ["path,split,label_a,label_b,label_c"]
    for kind in ("sizes", "small"):
        for split, count in COUNTS.items():
            for i in range(count):
                name = f"{kind}/{split}/{'ab'[i % 2]}/{i}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                size = rng.integers(20, 60, 2) if kind == "sizes" else (20, 22)
                pixels = rng.integers(0, 160, (*size, 3), np.uint8)
                pixels[..., i % 2] += 60
                Image.fromarray(pixels).save(folder / name)
                if kind == "sizes":
                    rows.append(f"{name},{split},{i % 2},{1 - i % 2},{i // 2 % 2}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with images and, in `out`, a finished run of each recipe."""
    folder = tmp_path_factory.mktemp("predicted")
    draw(folder)
    for name, (images, settings) in RUNS.items():
        source = f"folder:{folder / images}"
        if images == "table":
            source = f"table:{folder}/table.csv?label=label_a,label_b,label_c"
        text = RECIPE.format(source=source) + f"[arms.main]\n{settings}"
        (folder / f"{name}.toml").write_text(text)
        command = ["run", str(folder / f"{name}.toml"), "--out", str(folder / "out")]
        assert main(command) == 0
    return folder


def run_of(folder, name) -> Path:
    return folder / "out" / name / "main" / "seed-0"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def stored(run: Path):
    """The run's own predictions on test."""
    metrics = json.loads((run / "metrics.json").read_text())
    found = read_predictions(
        run / "predictions.csv",
        class_names=metrics["class_names"],
        task=metrics["task"],
    )
    return found["test"], metrics


@pytest.mark.parametrize("name", RUNS)
def test_new_files_are_predicted_as_the_runs_own_were(folder, name, tmp_path):
    run = run_of(folder, name)
    expected, metrics = stored(run)
    root = folder / "small" if name == "single" else folder
    if name == "two_logits":
        root = folder / "sizes"
    files = [str(root / one) for one in expected.ids]
    out = tmp_path / "rows.csv"
    # Neither as many at a time as in the run, nor a divisor of their number.
    command = ["predict", str(run), *files, "--out", str(out), "--batch-size", "4"]
    assert main(command) == 0
    rows = read(out.read_text())
    assert [row["id"] for row in rows] == files
    names = metrics["class_names"]
    found = np.array([[float(row[f"prob_{c}"]) for c in names] for row in rows])
    scaling = read_trained_model(run).scaling
    assert scaling is not None
    np.testing.assert_allclose(found, scaling.apply(expected), atol=1e-6)
    thresholds = metrics["threshold"]["value"]
    if metrics["task"] == "binary":
        reached = expected.probs[:, 1] >= thresholds
        assert [row["decision"] for row in rows] == [
            names[i] for i in reached.astype(int)
        ]
    else:
        cuts = np.array([thresholds[c] for c in names])
        reached = expected.probs >= cuts
        above = np.array([[row[f"above_threshold_{c}"] for c in names] for row in rows])
        np.testing.assert_array_equal(above.astype(int), reached)
        decided = ["; ".join(np.array(names)[yes]) for yes in reached]
        assert [row["decision"] for row in rows] == decided
    assert {row["error"] for row in rows} == {""}
    assert all(0 <= float(row["ood_score"]) <= 1 for row in rows)


def test_bad_files_are_named_and_the_rest_goes_on(folder, tmp_path, capsys):
    scans = tmp_path / "scans"
    shutil.copytree(folder / "sizes" / "test", scans)
    (scans / "a" / "00.png").write_bytes(b"no image")
    run = run_of(folder, "two_logits")
    assert main(["predict", str(run), str(scans), "gone.png"]) == 3
    captured = capsys.readouterr()
    rows = read(captured.out)
    names = ["0", "00", "2", "4", "6", "1", "3", "5", "gone"]
    assert [Path(row["id"]).name for row in rows] == [f"{name}.png" for name in names]
    bad = {Path(row["id"]).name: row for row in rows if row["error"]}
    assert set(bad) == {"00.png", "gone.png"}
    assert bad["gone.png"]["error"] == "No such file or directory"
    assert bad["00.png"]["decision"] == bad["00.png"]["ood_score"] == ""
    assert "2 of 9 cannot be used: " in captured.err
    assert f"{scans}/a/00.png (not one of" in captured.err


def test_without_a_usable_file_nothing_is_written(folder, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    out.write_text("from before")
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty"), str(tmp_path / "*.bmp")]
    run = str(run_of(folder, "two_logits"))
    assert main(["predict", run, *words, "--out", str(out)]) == 2
    assert "Error: No image can be used: " in capsys.readouterr().err
    assert out.read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "rows.csv"]


def test_json_lines_say_the_same(folder, tmp_path, capsys):
    run, images = str(run_of(folder, "labels")), str(folder / "sizes/test/a")
    assert main(["predict", run, images, "gone.png"]) == 3
    table = read(capsys.readouterr().out)
    out = tmp_path / "rows.jsonl"
    assert main(["predict", run, images, "gone.png", "--out", str(out)]) == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[-1] == {"id": "gone.png", "error": "No such file or directory"}
    for line, row in zip(table[:-1], rows[:-1], strict=True):
        assert line["id"] == row["id"]
        assert line["decision"] == row["decision"]
        assert float(line["ood_score"]) == row["ood_score"]
        for label in "abc":
            name = f"label_{label}"
            name = name if name in row["probs"] else label
            assert float(line[f"prob_{name}"]) == row["probs"][name]
            assert line[f"above_threshold_{name}"] == str(
                int(row["above_threshold"][name])
            )


def test_overlays_show_what_spoke_for_the_decision(folder, tmp_path):
    run = run_of(folder, "single")
    images = folder / "small" / "test" / "b"
    out = tmp_path / "rows.csv"
    command = ["predict", str(run), str(images), "gone.png", "--batch-size", "2"]
    assert main([*command, "--out", str(out), "--cam"]) == 3
    rows = read(out.read_text())
    assert rows[-1]["cam"] == ""
    trained = read_trained_model(run)
    for row in rows[:-1]:
        assert Path(row["cam"]).parent == tmp_path / "rows_cams"
        seen = trained.preprocessing.resize(decode(Path(row["id"]))[None])
        image = np.rint(np.asarray(seen))[0].clip(0, 255).astype(np.uint8)
        network_input = trained.preprocessing(decode(Path(row["id"]))[None])
        classes = np.array([trained.class_names.index(row["decision"])])
        (cam,) = explain(trained.model, network_input, classes, layer="layer3").maps
        with Image.open(row["cam"]) as picture:
            drawn = np.asarray(picture).astype(int)
        differences = np.abs(drawn - overlay(image, cam))
        # A map that differs by rounding may take the color beside.
        assert differences.max() <= 3
        assert differences.mean() < 0.1


def test_dicom_files_are_predicted_as_their_pixels_are(folder, tmp_path):
    pytest.importorskip("pydicom")
    from pydicom.examples import get_path

    path = get_path("ct")
    run = jaxmed.load_model(run_of(folder, "two_logits"))
    pixels = decode(Path(path), 28)
    as_png = tmp_path / "same.png"
    Image.fromarray(pixels[..., 0]).save(as_png)
    (tmp_path / "IM1").write_bytes(Path(path).read_bytes())
    first, second, third = run.predict([path, tmp_path / "IM1", as_png])
    assert first.probs == second.probs == pytest.approx(third.probs, abs=1e-6)


def test_images_of_another_kind_are_out_of_distribution(folder, tmp_path, capsys):
    odd = tmp_path / "white.png"
    Image.fromarray(np.full((28, 28), 255, np.uint8)).save(odd)
    run = run_of(folder, "two_logits")
    usual, unusual = jaxmed.load_model(run).predict(
        [folder / "sizes" / "train" / "a" / "0.png", odd]
    )
    assert unusual.ood_score == 1
    assert unusual.out_of_distribution
    assert usual.ood_score is not None
    assert usual.ood_score < 1
    assert main(["predict", str(run), str(odd)]) == 0
    captured = capsys.readouterr()
    assert read(captured.out)[0]["out_of_distribution"] == "1"
    assert "1 of 1 images are out of distribution" in captured.err


def test_a_run_without_a_record_of_its_images_says_so_once(folder, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(run_of(folder, "two_logits"), run)
    (run / "out_of_distribution.npz").unlink()
    assert main(["predict", str(run), str(folder / "sizes" / "test")]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("`ood_score` stays empty") == 1
    assert {(r["ood_score"], r["out_of_distribution"]) for r in read(captured.out)} == {
        ("", "")
    }


def test_from_python_arrays_and_paths_are_alike(folder):
    run = jaxmed.load_model(str(run_of(folder, "single")))
    files = sorted((folder / "small" / "test" / "a").iterdir())
    by_path = run.predict(files)
    assert [one.id for one in by_path] == list(map(str, files))
    arrays = [decode(path) for path in files]
    for given in (arrays, np.stack(arrays)):
        by_array = run.predict(given, batch_size=3)
        assert [one.id for one in by_array] == [str(i) for i in range(len(files))]
        for a, b in zip(by_path, by_array, strict=True):
            assert a.probs == pytest.approx(b.probs, abs=1e-6)
    (alone,) = run.predict(arrays[0])
    assert alone.probs == pytest.approx(by_path[0].probs, abs=1e-6)
    assert [one.id for one in run.predict(files[0].parent)] == list(map(str, files))
    with pytest.raises(InputError, match="must be uint8"):
        run.predict(arrays[0] / 255)
    with pytest.raises(InputError, match=r"of the shape \(0, 5, 3\)"):
        run.predict(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(InputError, match="no images"):
        run.predict([])
    with pytest.raises(InputError, match="paths to predict or arrays, not both"):
        run.predict([files[0], arrays[0]])


def test_arrays_of_any_size_are_resized_as_files_are(folder):
    run = jaxmed.load_model(run_of(folder, "labels"))
    files = sorted((folder / "sizes" / "test" / "a").iterdir())
    arrays = [decode(path) for path in files]
    assert len({array.shape for array in arrays}) > 1
    for a, b in zip(run.predict(files), run.predict(arrays), strict=True):
        assert a.probs == pytest.approx(b.probs, abs=1e-6)


def test_a_model_trained_in_python_is_used_as_a_run_is(folder):
    run = run_of(folder, "single")
    trained = read_trained_model(run)
    data = jaxmed.load_dataset(
        f"folder:{folder / 'small'}", image_size=28, resizing=Resizing(mode="crop")
    )
    metrics = json.loads((run / "metrics.json").read_text())
    predictor = jaxmed.make_predictor(trained.model, data, metrics, views=trained.views)
    images = folder / "small" / "test"
    ours = predictor.predict(images, cams=True)
    theirs = jaxmed.load_model(run).predict(images)
    assert len(ours) == COUNTS["test"]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.id, a.decision, a.above_threshold, a.ood_score) == (
            *(b.id, b.decision, b.above_threshold, b.ood_score),
        )
        assert a.probs == pytest.approx(b.probs, abs=1e-6)
        assert a.image is not None
        assert a.cam is not None
        assert a.image.shape[:2] == a.cam.shape == (28, 28)
        assert b.cam is None
    with pytest.raises(
        InputError, match=r"class_names is \['c', 'd'\], and of folder:"
    ):
        jaxmed.make_predictor(
            trained.model, data, metrics | {"class_names": ["c", "d"]}
        )


def test_a_reader_that_goes_away_is_no_error(folder, monkeypatch, capfd):
    read_end, write_end = os.pipe()
    os.close(read_end)
    run, images = run_of(folder, "two_logits"), folder / "sizes" / "test"
    with os.fdopen(write_end, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert main(["predict", str(run), str(images), "--batch-size", "2"]) == 0
    assert "BrokenPipe" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "rows.xlsx"], "--out must end in .csv or .jsonl, or be -"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--batch-size", "many"], "--batch-size: invalid int value: 'many'"),
        (["--out", "{tmp}/here.csv"], "here.csv is a folder, and --out is a file"),
        (["--out", "{tmp}/file/rows.csv"], "file is a file. Give another --out"),
        (["--cam", "{tmp}/file"], "file is a file. Give another folder to --cam"),
    ],
)
def test_wrong_flags_are_refused_and_nothing_is_lost(
    folder, tmp_path, flags, message, capsys
):
    (tmp_path / "here.csv").mkdir()
    (tmp_path / "file").write_text("kept")
    run, images = str(run_of(folder, "single")), str(folder / "small" / "test")
    words = [flag.format(tmp=tmp_path) for flag in flags]
    assert main(["predict", run, images, *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here.csv"]


def test_what_is_no_run_is_refused(folder, tmp_path, capsys):
    images = str(folder / "small" / "test")
    for run, message in (
        (tmp_path / "none", "There is no run folder"),
        (folder / "out", "Did you mean"),
        (folder / "small", "is no run: there is no config.toml"),
    ):
        assert main(["predict", str(run), images]) == 2
        assert message in capsys.readouterr().err
    assert main(["predict", str(run_of(folder, "single"))]) == 2
    assert "IMAGE_OR_FOLDER" in capsys.readouterr().err


def test_a_run_needs_its_folder_alone(folder, tmp_path, monkeypatch):
    """Neither the images it was trained on nor the place it was written to."""
    files = [folder / "small" / "test" / "a" / "0.png"]
    expected = jaxmed.load_model(run_of(folder, "single")).predict(files)
    shutil.copytree(run_of(folder, "single"), tmp_path / "moved")
    hidden = folder.with_name("hidden")
    shutil.copy(files[0], tmp_path / "0.png")
    folder.rename(hidden)
    try:
        monkeypatch.chdir(tmp_path)
        found = jaxmed.load_model("moved").predict("0.png")
    finally:
        hidden.rename(folder)
    assert found[0].probs == expected[0].probs


def test_the_model_card_says_what_the_run_found(folder):
    for name in RUNS:
        run = run_of(folder, name)
        card = (run / "MODEL_CARD.md").read_text()
        _, metrics = stored(run)
        estimate = metrics["test"]["auroc"]
        numbers = "{value:.3f} [{ci_low:.3f}, {ci_high:.3f}]".format(**estimate)
        assert f"AUROC {numbers}" in card
        assert "Not for clinical use" in card
        assert "Images: 10 train, 8 val, 7 test." in card
        assert "Input: 28 × 28 pixels" in card
        for label in metrics["class_names"]:
            assert label in card
