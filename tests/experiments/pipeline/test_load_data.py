"""What is said about a recipe's splits, and splits of a run that are used again."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.dataset import SPLITS, Dataset, Split
from jaxmed.data.splits.splitting import Splitting, make_split
from jaxmed.experiments.__main__ import main
from jaxmed.experiments.pipeline.load_data import notes_on_split
from jaxmed.runtime.toml import read_toml

RECIPE = """
[data]
source = "folder:{data}"
image_size = 32
split = "patient"
group_pattern = 'p(\\d+)-'
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = {{ epochs = 1 }}
[evaluate]
resamples = 100
[explain]
images = 0
"""


def kaggle(train, val, *, name="person{}_bacteria_{}.jpeg"):
    splits = {}
    for split, count in (("train", train), ("val", val), ("test", 60)):
        ids = [f"{split}/" + name.format(i // 2, i) for i in range(count)]
        splits[split] = Split(
            images=np.zeros((count, 1, 1, 1), np.uint8),
            labels=np.arange(count, dtype=np.int32) % 2,
            ids=tuple(ids),
        )
    return Dataset(
        name="kaggle",
        source="folder:kaggle",
        task="binary",
        class_names=("NORMAL", "PNEUMONIA"),
        image_size=1,
        **splits,
    )


def test_kaggles_validation_split_is_noticed_and_a_better_one_offered():
    (note,) = notes_on_split(kaggle(5216, 16), Splitting())
    assert note.startswith("folder:kaggle: 16 validation images, to 5,216 of training")
    assert note.endswith(
        r"--data.split patient --data.group-pattern 'person(\d+)_|IM-(\d+)-'"
    )
    (note,) = notes_on_split(kaggle(5216, 16, name="{}/{}.png"), Splitting())
    assert "--data.split stratified" in note
    for train, val in ((5216, 60), (1000, 16)):
        assert notes_on_split(kaggle(train, val), Splitting()) == []


def test_what_a_split_made_anew_is_is_said():
    splitting = Splitting(split="patient", group_pattern=r"person(1\d*)_")
    data = make_split(kaggle(400, 40), splitting)
    first, second = notes_on_split(data, splitting)
    assert first == "folder:kaggle: split patient, 350 train, 50 val, 100 test images"
    ids = [i for name in SPLITS for i in getattr(data, name).ids]
    alone = sum("person1" not in identity for identity in ids)
    assert second.endswith(f"{alone} of them single images whose names show no group")


def test_groups_on_both_sides_are_said():
    splitting = Splitting(split="stratified", group_pattern=r"person(\d+)_")
    data = make_split(kaggle(400, 40), splitting)
    note = notes_on_split(data, splitting)[-1]
    assert "groups have images in more than one split (the first is " in note
    assert "--data.split patient" in note


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a folder without splits, by patient."""
    folder = tmp_path_factory.mktemp("split")
    rng = np.random.default_rng(0)
    for i in range(40):
        label = "sick" if i // 2 % 2 else "well"
        path = folder / "scans" / label / f"p{i // 2}-{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(path)
    (folder / "mine.toml").write_text(RECIPE.format(data=folder / "scans"))
    assert run(folder) == 0
    return folder


def run(folder, *flags, out="out"):
    recipe = str(folder / "mine.toml")
    return main(["run", recipe, "--out", str(folder / out), *flags])


def run_folder(folder, out="out"):
    return folder / out / "mine" / "main" / "seed-0"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_split_of_a_run_is_saved(finished):
    rows = read(run_folder(finished) / "split.csv")
    assert len(rows) == 40
    by_patient = {}
    for row in rows:
        assert row["id"].split("/")[1].startswith(f"p{row['group']}-")
        by_patient.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_patient.values())
    predicted = {row["id"]: row["split"] for row in read_predictions(finished)}
    expected = {r["id"]: r["split"] for r in rows if r["split"] != "train"}
    assert predicted == expected
    config = read_toml(run_folder(finished) / "config.toml")
    assert config["data"]["split"] == "patient"


def read_predictions(folder):
    return read(run_folder(folder) / "predictions.csv")


def test_a_saved_split_trains_the_same_run(finished):
    path = run_folder(finished) / "split.csv"
    flags = ("--data.split", f"file:{path}", "--data.group-pattern", "")
    assert run(finished, *flags, out="again") == 0
    first, again = (run_folder(finished, out) for out in ("out", "again"))
    for name in ("split.csv", "predictions.csv"):
        assert (again / name).read_bytes() == (first / name).read_bytes()


def test_the_split_of_a_run_on_a_subset_has_all_images(finished):
    assert run(finished, "--data.train-images", "6", out="part") == 0
    part, first = (run_folder(finished, out) for out in ("part", "out"))
    assert (part / "split.csv").read_bytes() == (first / "split.csv").read_bytes()
    sizes = json.loads((part / "environment.json").read_text())["data"]["sizes"]
    assert sizes["train"] == 6


def test_a_recipe_says_how_images_are_drawn(finished):
    assert run(finished, "--train.sampling", "balanced", out="drawn") == 0
    drawn, first = (run_folder(finished, out) for out in ("drawn", "out"))
    losses = [read(one / "history.csv")[0]["train_loss"] for one in (drawn, first)]
    assert losses[0] != losses[1]
    assert read_toml(drawn / "config.toml")["train"]["sampling"] == "balanced"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--data.split", "given"), "has no train, val and test, so the split cannot"),
        (
            ("--data.split", "patiend"),
            "Unknown split 'patiend'. Did you mean 'patient'",
        ),
        (("--data.folds", "2"), "folds must be 0 or at least 3"),
        (("--data.group-pattern", "x(y)"), "occurs in none of the 40 ids"),
        (("--data.split", "file:nowhere.csv"), "nowhere.csv cannot be read"),
    ],
)
def test_a_wrong_split_is_one_sentence(finished, capsys, flags, sentence):
    assert run(finished, *flags, out="wrong") == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert not (finished / "wrong").exists()
