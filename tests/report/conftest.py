"""Experiment folders as `run` leaves them, with drawn predictions and real metrics."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from jaxmed.data import Dataset, Split
from jaxmed.data.audit.audit import audit
from jaxmed.evaluation import Predictions, evaluate, write_predictions
from jaxmed.experiments.commands.inspect import write_sheet
from jaxmed.report import build_report
from jaxmed.report.pages.leaderboard import build_leaderboard

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
]
EXPECTED = [
    {
        "arm": "two_phase",
        "metric": "train_accuracy",
        "value": (0.6, 0.7, 0.8),
        "source": "Somebody, 2023",
    },
    {"arm": "two_phase", "metric": "val_accuracy", "value": 0.964, "source": "<b>"},
    {"arm": "full", "metric": "val_accuracy", "value": 0.9, "source": "nobody"},
    {"arm": "two_phase", "metric": "test_sensitivity", "value": 0.9, "source": ""},
]
HOSTILE = 'T-cell <script>alert("1")</script> & $x_1$'


def draw_predictions(
    names: Sequence[str], skill: float, seed: int, task: str, n: int
) -> list[Predictions]:
    """Val and test predictions of an imagined model.

    Args:
        names: the classes.
        skill: how far the true class's logit is above the others, on average.
        seed: of the noise; labels are the same for every seed.
        task: binary, multiclass or multilabel.
        n: images per split.
    """
    splits = []
    for number, split in enumerate(("val", "test")):
        truth = np.random.default_rng(number)
        noise = np.random.default_rng([seed, number])
        labels = truth.integers(0, len(names), n)
        member = np.eye(len(names))[labels]
        if task == "multilabel":
            labels = truth.integers(0, 2, (n, len(names)))
            member = labels
        logits = skill * member + noise.normal(size=(n, len(names)))
        exp = np.exp(logits)
        if task == "multilabel":
            probs = exp / np.exp(skill / 2) / (1 + exp / np.exp(skill / 2))
        else:
            probs = exp / exp.sum(axis=1, keepdims=True)
        splits.append(
            Predictions(
                split=split,
                ids=tuple(f"{split}/{i:06d}" for i in range(n)),
                labels=labels,
                probs=probs.astype(np.float32).astype(np.float64),
                class_names=tuple(names),
                task=task,
            )
        )
    return splits


def write_run(
    folder: Path,
    names: Sequence[str],
    *,
    skill: float,
    task: str,
    n: int = 160,
    bare: bool = False,
    one_class: bool = False,
    staged: bool = False,
    columns: Mapping[str, Sequence[str]] | None = None,
    tied: bool = False,
    missing: bool = False,
) -> None:
    """Writes a run's folder.

    Args:
        folder: ends in "seed-<n>".
        names: the classes.
        skill: see `draw_predictions`.
        task: see `draw_predictions`.
        n: images per split.
        bare: metrics and predictions only.
        one_class: the test split holds no other class than the first.
        staged: with records of every stage and with a schedule; older runs have none.
        columns: properties of the images; the texts are repeated until all have one.
        tied: many scores are equal.
        missing: of several labels, a third is not known.
    """
    seed = int(folder.name.removeprefix("seed-"))
    folder.mkdir(parents=True)
    splits = draw_predictions(names, skill, seed, task, n)
    if one_class:
        splits[1].labels[:] = 0
    if columns:
        repeated = {name: (tuple(v) * n)[:n] for name, v in columns.items()}
        splits = [replace(split, columns=repeated) for split in splits]
    for split in splits:
        if tied:
            split.probs[:] = split.probs.round(1)
        if missing:
            split.labels[np.random.default_rng(5).random(split.labels.shape) < 0.3] = -1
    write_predictions(folder / "predictions.csv", splits)
    metrics = evaluate(*splits, resamples=100)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if bare:
        return
    phases = ["head"] * 3 + ["all"] * 5 if skill > 1 else ["all"] * 8
    _write_history(folder / "history.csv", phases, skill, staged)
    environment = _environment(names, task, phases, n)
    if staged:
        _add_stages(environment["parameters"]["phases"])
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "config.toml").write_text('[data]\nsource = "npz:PATH"\n')
    _write_cams(folder, splits[1])


def _write_history(
    path: Path, phases: Sequence[str], skill: float, staged: bool
) -> None:
    rows, within = [], 0
    for index, phase in enumerate(phases):
        within = within + 1 if index and phases[index - 1] == phase else 1
        fit = 1 - np.exp(-(index + 1) * skill / 4)
        row = {"phase": phase, "epoch": within, "step": 147 * (index + 1)}
        row |= {"train_loss": 0.7 - 0.6 * fit, "train_accuracy": 0.5 + 0.49 * fit}
        row |= {"val_loss": 0.75 - 0.55 * fit + 0.01 * (index % 3)}
        row |= {"val_accuracy": 0.5 + 0.46 * fit, "val_auroc": 0.6 + 0.39 * fit}
        part = 1 / within if staged and phase == "all" else 1
        row |= {"lr_head": 1e-3 * part}
        row |= {"lr_backbone": "" if phase == "head" else 1e-5 * part}
        rows.append(row | {"seconds": 21.5, "images_per_second": 219.0})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _environment(names, task, phases, n) -> dict:
    group = {"optimizer": "adam", "learning_rate": 1e-3, "patterns": ["head.*"]}
    head = {"name": "head", "parameters": 1026, **group}
    rest = {"name": "backbone", "parameters": 11_176_512, "optimizer": "adam"}
    rest |= {"learning_rate": 1e-5, "patterns": ["backbone.*"]}
    trained = [
        {"name": "head", "epochs": 3, "trainable": 1026, "groups": [head]},
        {"name": "all", "epochs": 5, "trainable": 11_177_538, "groups": [head, rest]},
    ]
    return {
        "jaxmed": "0.1.0",
        "jax": "0.10.2",
        "devices": ["cpu"],
        "git_revision": "0123456789abcdef",
        "data": {
            "source": "npz:PATH",
            "fingerprint": "ab" * 32,
            "class_names": list(names),
            "task": task,
            "sizes": {"train": 1000, "val": n, "test": n},
        },
        "weights": {"name": "imagenet", "fingerprint": "cd" * 32},
        "parameters": {
            "total": 11_177_538,
            "phases": [phase for phase in trained if phase["name"] in phases],
        },
        "best": {"phase": "all", "epoch": 4, "metric": "val_auroc", "value": 0.97},
        "seconds": 172.0,
    }


def _add_stages(phases: list[dict]) -> None:
    """Adds what newer runs record: in both phases, layer1's norms are unusual."""
    sizes = {"stem": 9536, "layer1": 147_968, "layer2": 525_568, "layer3": 2_099_712}
    sizes |= {"layer4": 8_393_728, "head": 1026}
    for phase, backbone in zip(phases, (0.0, 1e-5), strict=True):
        phase["schedule"] = "cosine by step" if backbone else "constant"
        phase["drifting"] = [] if backbone else ["backbone.layer1"]
        phase["still"] = ["backbone.layer1"] if backbone else []
        phase["stages"] = []
        for name, size in sizes.items():
            rate = 1e-3 if name == "head" else backbone
            norms = {"frozen": 0, "updating": 0, "drifting": 0}
            unusual = "frozen" if backbone else "drifting"
            usual = "updating" if backbone else "frozen"
            norms[unusual if name == "layer1" else usual] = 0 if name == "head" else 4
            stage = {"name": name, "parameters": size, "trained": size if rate else 0}
            stage |= {"rates": [rate, rate] if rate else [], "norms": norms}
            phase["stages"].append(stage)


def _write_cams(folder: Path, test: Predictions) -> None:
    (folder / "cams").mkdir()
    entries = []
    for i in range(8):
        shade = np.linspace(0, 255, 112, dtype=np.uint8)
        image = np.stack([np.tile(shade, (56, 1))] * 3, axis=-1)
        image[:, :, i % 3] //= 2
        name = f"cams/{i:03d}.png"
        Image.fromarray(image).save(folder / name)
        true = test.labels[i] if test.labels.ndim == 1 else 0
        predicted = int(test.probs[i].argmax())
        entries.append(
            {
                "file": name,
                "id": test.ids[i],
                "split": "test",
                "true": test.class_names[true],
                "predicted": test.class_names[predicted],
                "probability": float(test.probs[i].max()),
                "correct": bool(true == predicted),
                "kinds": [["loss"], ["uncertain", "random"], ["random"]][i % 3],
                "degenerate": i == 5,
                "method": "grad_cam",
            }
        )
    (folder / "cams" / "cams.json").write_text(json.dumps(entries))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def binary_folder(tmp_path_factory) -> Path:
    """Two arms with two seeds each: `scratch`, as older runs, and `two_phase`."""
    folder = tmp_path_factory.mktemp("binary")
    for arm, skill in (("scratch", 0.9), ("two_phase", 2.2)):
        for seed in (0, 1):
            run = folder / arm / f"seed-{seed}"
            names, staged = ("normal", "pneumonia"), arm == "two_phase"
            write_run(run, names, skill=skill, task="binary", staged=staged)
    Image.new("RGB", (640, 320), "#446688").save(folder / "samples.png")
    return folder


@pytest.fixture(scope="session")
def binary_html(binary_folder: Path) -> str:
    """The page of `binary_folder`, with published numbers; slow to build."""
    path = build_report(
        binary_folder, title="two_phase", description="A test.", expected=EXPECTED
    )
    assert path == binary_folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def multiclass_folder(tmp_path_factory) -> Path:
    """One arm, one seed, a class name that HTML and matplotlib would misread."""
    folder = tmp_path_factory.mktemp("multiclass")
    names = ("basophil", "_eosinophil", HOSTILE, "a" * 80)
    write_run(folder / "frozen" / "seed-3", names, skill=1.5, task="multiclass")
    return folder


@pytest.fixture(scope="session")
def columns_folder(tmp_path_factory) -> Path:
    """Two arms, with a column of a hostile value, a rare one and one not known."""
    folder = tmp_path_factory.mktemp("columns")
    sites = ["*A & B_1", HOSTILE, "*A & B_1", "", HOSTILE, "*A & B_1", "*A & B_1"]
    columns = {"site": sites * 3 + ["rare"], "a/b": [str(i) for i in range(40)]}
    for arm, skill in (("scratch", 0.9), ("two_phase", 2.2)):
        names, run = ("normal", "100 % ill"), folder / arm / "seed-0"
        staged = arm == "two_phase"
        write_run(
            run, names, skill=skill, task="binary", staged=staged, columns=columns
        )
    return folder


@pytest.fixture(scope="session")
def sheet(tmp_path_factory) -> Path:
    """The page of a data set with leaks of every kind and hostile names."""
    rng, splits = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        images = rng.integers(0, 256, (60, 24, 40, 3)).astype(np.uint8)
        labels = np.arange(60, dtype=np.int32) % 4
        ids = tuple(f"{split}/{HOSTILE}/p{i}_{'long' * 20}" for i in range(60))
        splits[split] = Split(images=images, labels=labels, ids=ids)
    splits["val"].images[:15] = splits["train"].images[:15]
    splits["test"].images[3] = splits["train"].images[30] // 2
    splits["test"].images[9] = 0
    names = ("basophil", "_eosinophil", HOSTILE, "a" * 80)
    data = Dataset(
        name="a_long_name_of_a_data_set_" * 4, source="npz:PATH", task="multiclass",
        class_names=names, image_size=40, **splits,
    )  # fmt: skip
    found = audit(data, group_pattern=r"p(\d+)_")
    return write_sheet(tmp_path_factory.mktemp("sheet"), "hostile", data, found)


@pytest.fixture(scope="session")
def leaderboard(tmp_path_factory, binary_folder, multiclass_folder) -> Path:
    """The page of twelve sets and as many published numbers as MedMNIST has."""
    folder = tmp_path_factory.mktemp("leaderboard")
    sets = [f"set_{index}_of_images" for index in range(12)]
    for index, name in enumerate(sets):
        whole = multiclass_folder if index == 1 else binary_folder
        (folder / name).symlink_to(whole)
    published = {
        "source": "Somebody and others, 2023",
        "note": "A long note " * 20,
        "methods": [f"ResNet-{layers} (28)" for layers in (18, 34, 50, 101)],
        "auroc": {name: [0.9, 0.91, 0.92, 0.93] for name in sets[:8]},
    }
    return build_leaderboard(
        folder, title="a_long_name_of_a_board_" * 4, description="Twelve sets",
        sets=sets, arms=["scratch", "two_phase", "frozen"], published=published,
    )  # fmt: skip


@pytest.fixture(scope="session")
def write_experiment() -> Callable[..., None]:
    """Writes a bare run: `write(folder, task, classes=3, n=80, one_class=False)`."""

    def write(folder: Path, task: str, *, classes: int, n: int = 80, **options):
        names = tuple(f"class {index}" for index in range(classes))
        write_run(folder, names, skill=1.5, task=task, n=n, bare=True, **options)

    return write


@pytest.fixture(scope="session")
def oracle() -> Callable[..., dict[str, float]]:
    """What scikit-learn says of decisions, NaN where a metric is not defined."""

    def score(truth, said) -> dict[str, float]:
        tn, fp, fn, tp = confusion_matrix(truth, said, labels=[False, True]).ravel()
        options = {"zero_division": np.nan}
        return {
            "tp": tp, "fp": fp, "fn": fn, "tn": tn,
            "sensitivity": recall_score(truth, said, **options),
            "specificity": recall_score(truth, said, pos_label=False, **options),
            "ppv": precision_score(truth, said, **options),
            "npv": precision_score(truth, said, pos_label=False, **options),
            "accuracy": accuracy_score(truth, said),
            "f1": f1_score(truth, said, **options),
        }  # fmt: skip

    return score
