"""The facts at the head of the page."""

import json
import shutil

import pytest

from jaxmed.report.text.captions import facts
from jaxmed.runs.record import read_experiment


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


@pytest.mark.parametrize(
    ("resizing", "tta", "words"),
    [
        (None, "none", "64 × 64 pixels, squashed to a square"),
        (
            {"mode": "pad", "factor": 1.14},
            "flip",
            "64 × 64 pixels, padded to a square with black; test-time views: flip",
        ),
        (
            {"mode": "crop", "factor": 256 / 224},
            "none",
            "64 × 64 pixels, center crop, 1 / 1.14 of the shorter side",
        ),
    ],
)
def test_what_the_network_sees_is_told(binary_folder, tmp_path, resizing, tta, words):
    arms, _ = read_experiment(binary_folder)
    assert dict(facts(arms, "today"))["Network input"] == "not recorded"

    shutil.copytree(binary_folder, tmp_path / "copy")
    preprocessing = {"image_size": 64} | ({"resizing": resizing} if resizing else {})
    for run in (tmp_path / "copy").glob("*/seed-*"):
        more = {
            "environment.json": {"preprocessing": preprocessing},
            "metrics.json": {"tta": tta},
        }
        for name, added in more.items():
            found = json.loads((run / name).read_text())
            (run / name).write_text(json.dumps(found | added))
    arms, _ = read_experiment(tmp_path / "copy")
    assert dict(facts(arms, "today"))["Network input"] == words


def test_that_no_accelerator_was_used_is_said(binary_folder):
    arms, _ = read_experiment(binary_folder)
    assert dict(facts(arms, "today"))["Device"] == "cpu (no GPU or TPU in use)"
    for run in (run for arm in arms for run in arm.runs):
        run.environment["devices"] = ["NVIDIA H100"] * 2
    assert dict(facts(arms, "today"))["Device"] == "2 × NVIDIA H100"
