"""The facts at the head of the page."""

import json
import shutil

from jaxmed.report.notes import facts
from jaxmed.report.records import read_experiment


def test_images_are_told_for_each_arm_that_has_its_own(binary_folder, tmp_path):
    arms, _ = read_experiment(binary_folder)
    same = dict(facts(arms, "today"))["Images"]
    assert same.startswith("train 1,000, val ")

    shutil.copytree(binary_folder, tmp_path / "copy")
    path = tmp_path / "copy" / "two_phase" / "seed-0" / "environment.json"
    environment = json.loads(path.read_text())
    environment["data"]["sizes"]["train"] = 50
    path.write_text(json.dumps(environment))
    arms, _ = read_experiment(tmp_path / "copy")
    few = same.replace("train 1,000", "train 50")
    assert dict(facts(arms, "today"))["Images"] == f"scratch: {same}; two_phase: {few}"
