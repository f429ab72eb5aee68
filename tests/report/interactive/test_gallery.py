"""Tests of the gallery's items."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jaxmed.errors import InputError
from jaxmed.report import read_run
from jaxmed.report.interactive.gallery import (
    KINDS,
    describe_gallery,
    gallery_filters,
    gallery_items,
)
from jaxmed.report.page import embed_cam
from jaxmed.runs.record import Arm


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
    three = sum(len(embed_cam(cam).src) for cam in run.cams[:3])
    assert len(gallery_items(run, three)) == 3
    assert len(gallery_items(run, three - 1)) == 2


def test_several_classes_are_right_or_wrong(multiclass_folder: Path):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    items = gallery_items(run, 10**6)
    for item in items:
        assert item.outcome == ("right" if item.cam.correct else "wrong")
    sections = [{"name": "frozen", "gallery": items}, {"name": "bare", "gallery": ()}]
    found = gallery_filters(sections, "bare")
    # An arm without images is no choice, and none to begin with.
    assert (found["arms"], found["first"]) == (["frozen"], "")
    assert gallery_filters(sections, "frozen")["first"] == "frozen"
    assert {value for value, _ in found["outcomes"]} == {i.outcome for i in items}
    assert set(found["classes"]) == {item.cam.true for item in items}
    assert gallery_filters(sections[1:], "bare") is None


def test_every_method_is_told_by_its_papers_name(binary_folder: Path):
    run = read_run(binary_folder / "scratch" / "seed-0")
    assert "(Grad-CAM)" in describe_gallery([Arm(name="scratch", runs=(run,))])
    cams = tuple(replace(cam, method="occlusion") for cam in run.cams)
    arm = Arm(name="scratch", runs=(replace(run, cams=cams),))
    assert "(Occlusion)" in describe_gallery([arm])
    assert "CAM" not in describe_gallery([arm])


def test_a_map_that_is_no_image_is_a_sentence(binary_folder: Path, tmp_path: Path):
    folder = tmp_path / "scratch" / "seed-0"
    shutil.copytree(binary_folder / "scratch" / "seed-0", folder)
    entries = json.loads((folder / "cams" / "cams.json").read_text())
    (folder / entries[0]["file"]).write_text("no image")
    with pytest.raises(InputError, match="is not an image"):
        gallery_items(read_run(folder), 10**6)
