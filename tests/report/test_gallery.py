"""Tests of the gallery's items."""

import json
import shutil
from pathlib import Path

import pytest

from jaxmed.errors import InputError
from jaxmed.report import read_run
from jaxmed.report.gallery import KINDS, gallery_filters, gallery_items
from jaxmed.report.pictures import cam_shot


def test_outcomes_are_those_at_the_threshold_chosen_on_val(binary_folder: Path):
    run = read_run(binary_folder / "scratch" / "seed-0")
    test, threshold = run.predictions["test"], run.metrics["threshold"]["value"]
    items = gallery_items(run, 10**6)
    assert len(items) == 8
    for item in items:
        row = test.ids.index(item.cam.id)
        said, true = test.probs[row, 1] >= threshold, test.labels[row] == 1
        assert item.outcome == ("T" if said == true else "F") + ("P" if said else "N")
        assert item.right == (said == true)
        assert item.probability == f"P(pneumonia) = {test.probs[row, 1]:.3f}"
        assert json.loads(item.filters["classes"]) == [test.class_names[int(true)]]
        assert (item.shot.width, item.shot.height) == (112, 56)


def test_the_highest_losses_come_first_and_the_room_is_kept(binary_folder: Path):
    run = read_run(binary_folder / "scratch" / "seed-0")
    kinds = [item.kinds[0] for item in gallery_items(run, 10**6)]
    assert kinds == sorted(kinds, key=list(KINDS.values()).index)
    three = sum(len(cam_shot(cam).src) for cam in run.cams[:3])
    assert len(gallery_items(run, three)) == 3
    assert len(gallery_items(run, three - 1)) == 2


def test_several_classes_are_right_or_wrong(multiclass_folder: Path):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    items = gallery_items(run, 10**6)
    for item in items:
        assert item.outcome == ("right" if item.cam.correct else "wrong")
    found = gallery_filters([{"gallery": items}])
    assert {value for value, _ in found["outcomes"]} == {i.outcome for i in items}
    assert set(found["classes"]) == {item.cam.true for item in items}
    assert gallery_filters([{"gallery": ()}]) is None


def test_maps_of_older_runs_have_no_kind(binary_folder: Path, tmp_path: Path):
    folder = tmp_path / "scratch" / "seed-0"
    shutil.copytree(binary_folder / "scratch" / "seed-0", folder)
    index = folder / "cams" / "cams.json"
    entries = json.loads(index.read_text())
    for entry in entries:
        for name in ("kinds", "degenerate", "method"):
            del entry[name]
    index.write_text(json.dumps(entries))
    items = gallery_items(read_run(folder), 10**6)
    assert [item.kinds for item in items] == [()] * 8
    assert gallery_filters([{"gallery": items}])["kinds"] == []
    (folder / entries[0]["file"]).write_text("no image")
    with pytest.raises(InputError, match="is not an image"):
        gallery_items(read_run(folder), 10**6)
