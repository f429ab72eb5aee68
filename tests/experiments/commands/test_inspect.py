"""The command `inspect`: its page, its JSON and its exit codes; real data's leaks."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.experiments.__main__ import main

PATIENT = r"person(\d+)_|IM-(\d+)-"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Different images, p0 to p11, of two classes in folders."""
    rng, number = np.random.default_rng(0), 0
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for index in range(count):
            path = tmp_path / "scans" / split / "ab"[index % 2] / f"p{number}_x.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 24)).astype(np.uint8)).save(path)
            number += 1
    return tmp_path / "scans"


def inspect(folder: Path, *flags: str) -> tuple[int, Path]:
    out = folder.parent / "out"
    code = main(["inspect", f"folder:{folder}", "--out", str(out), *flags])
    return code, out / "inspect-scans.json"


def test_a_clean_data_set_exits_with_0(folder, capsys):
    code, path = inspect(folder, "--group-pattern", r"p(\d+)_")
    assert code == 0
    found = json.loads(path.read_text("utf-8"))
    assert found["leaks"] == {"exact": 0, "near": 0, "patients": 0}
    assert found["files"]["val"]["b"] == {"sizes": {"24 x 24": 1}, "modes": {"L": 1}}
    assert "24 x 24 (3)" in path.with_suffix(".html").read_text("utf-8")
    said = capsys.readouterr().out
    assert "train: 6 images of 24 x 24 pixels, gray; a 3, b 3;" in said
    assert "No leakage found: no image and no patient" in said
    assert str(path.with_suffix(".html")) in said
    assert path.with_suffix(".html").is_file()


def test_without_patients_that_is_said(folder, capsys):
    code, path = inspect(folder)
    assert code == 0
    assert json.loads(path.read_text("utf-8"))["patients"] is None
    assert "give --group-pattern" in capsys.readouterr().out


def test_a_copy_in_another_split_exits_with_1(folder, capsys):
    copied = folder / "train" / "a" / "p0_x.png"
    (folder / "test" / "b" / "copy.png").write_bytes(copied.read_bytes())
    code, path = inspect(folder)
    assert code == 1
    (group,) = json.loads(path.read_text("utf-8"))["duplicates"]["exact"]
    assert group["ids"] == ["train/a/p0_x.png", "test/b/copy.png"]
    assert group["labels"] == ["a", "b"]
    assert (
        "Leakage: 1 exact duplicate in more than one split" in capsys.readouterr().out
    )
    page = path.with_suffix(".html").read_text("utf-8")
    assert "train/a/p0_x.png" in page
    assert "labels differ" in page


def test_a_recompressed_copy_in_another_split_exits_with_1(folder):
    copied = Image.open(folder / "train" / "a" / "p0_x.png")
    copied.save(folder / "val" / "a" / "copy.jpg", quality=80)
    code, path = inspect(folder)
    assert code == 1
    assert json.loads(path.read_text("utf-8"))["leaks"]["near"] == 1


def test_a_copy_in_the_same_split_does_not_leak(folder):
    copied = folder / "train" / "a" / "p0_x.png"
    copied.with_name("copy.png").write_bytes(copied.read_bytes())
    code, path = inspect(folder)
    assert code == 0
    assert len(json.loads(path.read_text("utf-8"))["duplicates"]["exact"]) == 1


def test_a_patient_on_both_sides_exits_with_1(folder):
    (folder / "val" / "a" / "p6_x.png").rename(folder / "val" / "a" / "p0_y.png")
    code, path = inspect(folder, "--group-pattern", r"p(\d+)_")
    assert code == 1
    found = json.loads(path.read_text("utf-8"))["patients"]
    expected = {"train": ["train/a/p0_x.png"], "val": ["val/a/p0_y.png"]}
    assert found["across"] == {"0": expected}


def test_a_recipe_stands_for_its_images(folder, capsys):
    recipe = folder.parent / "mine.toml"
    recipe.write_text(f'[data]\nsource = "folder:{folder}"\nimage_size = 16')
    out = folder.parent / "out"
    flags = ("--data.train-images", "4", "--out", str(out))
    assert main(["inspect", str(recipe), *flags]) == 0
    assert "train: 4 images of 16 x 16 pixels" in capsys.readouterr().out
    assert (out / "inspect-mine.html").is_file()


FOREIGN = """
import numpy as np
from jaxmed.data.dataset import SourceImages, Split

def load(rest, options):
    rng, count = np.random.default_rng(0), int(rest)
    images = Split(
        images=rng.integers(0, 256, (count, 24, 24, 1)).astype(np.uint8),
        labels=np.arange(count, dtype=np.int32) % 2,
        ids=tuple(map(str, range(count))),
    )
    return SourceImages(
        name="noise", source=f"noise:{rest}", task="binary",
        class_names=("even", "odd"), splits={"": images},
    )
"""


def test_a_source_of_another_package_is_looked_through(tmp_path, monkeypatch, capsys):
    (tmp_path / "foreign_noise.py").write_text(FOREIGN)
    about = tmp_path / "foreign_noise-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: foreign-noise\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[jaxmed.sources]\nnoise = foreign_noise:load\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    flags = ("--data.split", "stratified", "--out", str(tmp_path / "out"))
    assert main(["inspect", "noise:20", *flags]) == 0
    found = json.loads((tmp_path / "out" / "inspect-noise.json").read_text("utf-8"))
    assert (found["source"], found["images"]["train"]["count"]) == ("noise:20", 14)
    assert main(["inspect", "nois:20", *flags]) == 2
    assert "medmnist, noise, npz" in capsys.readouterr().err


def test_labels_that_are_not_known_are_told(tmp_path, capsys):
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 24, 24), np.uint8)
        arrays[f"{split}_labels"] = np.tile([[0, 1]], (count, 1))
    arrays["train_labels"][:4, 1] = -1
    np.savez(tmp_path / "partly.npz", **arrays)
    source, out = f"npz:{tmp_path / 'partly.npz'}", str(tmp_path / "out")
    assert main(["inspect", source, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "4 of 24 labels are not known; loss and metrics leave them out" in said
    assert "0 0, 1 2;" in said
    sentence = "Of 6 images in train labels are not known: &#39;1&#39; of 4."
    page = (tmp_path / "out" / "inspect-partly.html").read_text("utf-8")
    assert sentence in page or sentence.replace("&#39;", "'") in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "'nothing' is neither a source of images"),
        (["fodler:x"], "neither a source of images, SCHEME:REST with one of cells, "),
        (["mine.toml"], "There is no recipe file mine.toml"),
        (["folder:missing"], "The folder missing does not exist"),
        (["cells", "--train.batch-size", "4"], "takes the fields of [data] as flags"),
        (["cells", "--data.source", "npz:x"], "--data.source is given twice"),
    ],
)
def test_bad_input_exits_with_2_and_a_sentence(words, sentence, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["inspect", *words, "--out", str(out)]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("pattern", ["p(", "patient"])
def test_a_bad_pattern_exits_with_2(folder, pattern, capsys):
    code, path = inspect(folder, "--group-pattern", pattern)
    assert code == 2
    assert "group_pattern" in capsys.readouterr().err
    assert not path.exists()


def test_broken_files_exit_with_2_and_their_names(folder, capsys):
    (folder / "val" / "a" / "p6_x.png").write_bytes(b"")
    code, path = inspect(folder)
    assert code == 2
    assert "val/a/p6_x.png (the file is empty)" in capsys.readouterr().err
    assert not path.exists()


def test_pneumoniamnist_has_eight_train_images_in_val(test_data, tmp_path):
    source = f"npz:{test_data}/medmnist/pneumoniamnist_reassembled.npz"
    assert main(["inspect", source, "--out", str(tmp_path)]) == 1
    path = tmp_path / "inspect-pneumoniamnist_reassembled.json"
    found = json.loads(path.read_text("utf-8"))
    across = [one for one in found["duplicates"]["exact"] if one["across_splits"]]
    assert len(across) == found["leaks"]["exact"] == 8
    assert all(set(one["splits"]) == {"train", "val"} for one in across)
    assert found["duplicates"]["near"] == []


def test_breastmnist_has_near_duplicates_across_splits(test_data, tmp_path):
    source = f"npz:{test_data}/medmnist/breastmnist.npz"
    assert main(["inspect", source, "--out", str(tmp_path)]) == 1
    found = json.loads((tmp_path / "inspect-breastmnist.json").read_text("utf-8"))
    (group,) = found["duplicates"]["exact"]
    assert group["splits"] == ["train", "test"]
    assert group["labels_differ"]
    assert found["leaks"]["near"] == pytest.approx(105, abs=2)


def test_chest_xrays_leak_patients_only_after_a_random_split(test_data, tmp_path):
    root = test_data / "chest_xray"
    flags = ("--out", str(tmp_path), "--group-pattern", PATIENT)
    assert main(["inspect", f"folder:{root}", *flags]) == 0
    found = json.loads((tmp_path / "inspect-chest_xray.json").read_text("utf-8"))
    assert found["patients"]["across"] == {}
    assert found["patients"]["alone"] == 0
    # Looking alike, as all of them do, is not enough.
    assert found["duplicates"]["near"] == []
    groups = {frozenset(group["ids"]) for group in found["duplicates"]["exact"]}
    by_content = defaultdict(set)
    for path in root.rglob("*.jpeg"):
        by_content[path.read_bytes()].add(path.relative_to(root).as_posix())
    assert groups == {frozenset(ids) for ids in by_content.values() if len(ids) > 1}
    assert groups

    torn = ("--data.split", "stratified", "--data.image-size", "32")
    assert main(["inspect", f"folder:{root}", *flags, *torn]) == 1
    random = json.loads((tmp_path / "inspect-chest_xray.json").read_text("utf-8"))
    assert random["patients"]["count"] == found["patients"]["count"]
    assert len(random["patients"]["across"]) > 100
    assert random["leaks"]["exact"] > 0


def test_what_was_decided_is_told(tmp_path, capsys):
    rng, rows = np.random.default_rng(0), ["id,Normal,Pneumonia,split"]
    for i in range(12):
        path = tmp_path / f"images_{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(path)
        split = ("Training", "Test")[i % 4 == 3]
        rows.append(f"{i},{(i // 2) % 2},{1 - (i // 2) % 2},{split}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    source = f"table:{tmp_path}/cohort.csv?path=id&label=Pneumonia,Normal"
    out = ("--out", str(tmp_path / "out"))
    assert main(["inspect", source, *out]) == 2
    assert "has train and test, and no val" in capsys.readouterr().err
    flags = ("--data.split", "stratified", "--data.keep-test", "true", *out)
    assert main(["inspect", source, *flags]) == 0
    said = capsys.readouterr().out
    assert "Task: binary, of Pneumonia, Normal; the positive class is Normal" in said
    assert "&positive=Pneumonia behind the source makes it Pneumonia" in said
    assert "exactly one of the 2 columns Pneumonia, Normal is 1" in said
    assert "12 paths without an ending, found by name" in said
    assert "test as the source has it" in said
    found = json.loads((tmp_path / "out" / "inspect-cohort.json").read_text("utf-8"))
    assert len(found["notes"]) == 2
    page = (tmp_path / "out" / "inspect-cohort.html").read_text("utf-8")
    assert "12 paths without an ending, found by name." in page
