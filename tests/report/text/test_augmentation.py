"""Pictures of augmented images in the page."""

import json

import pytest
from PIL import Image

from jaxmed.report.pages.experiment import build_report
from jaxmed.report.text.captions import augmented_images, describe_augmentation
from jaxmed.runs.record import read_experiment

FLIP = {"op": "HorizontalFlip", "probability": 0.5}
CROP = {"op": "RandomResizedCrop", "scale": [0.8, 1.0], "ratio": [0.75, 4 / 3]}


@pytest.fixture
def experiment(tmp_path, write_experiment):
    """A function that writes runs: of each arm the operations it was augmented by."""

    def write(**arms):
        for arm, ops in arms.items():
            folder = tmp_path / arm / "seed-0"
            write_experiment(folder, "multiclass", classes=3)
            environment = json.dumps({"augmentation": ops})
            (folder / "environment.json").write_text(environment)
            if ops:
                Image.new("RGB", (60, 40)).save(folder / "augmented.png")
        return tmp_path

    return write


def test_operations_are_spelled_with_their_settings():
    assert describe_augmentation({"augmentation": [CROP, FLIP]}) == (
        "RandomResizedCrop scale 0.8 to 1, ratio 0.75 to 1.33; "
        "HorizontalFlip probability 0.5"
    )
    assert describe_augmentation({"augmentation": []}) == ""
    assert describe_augmentation({}) == ""


def test_arms_with_the_same_augmentation_share_a_picture(experiment):
    folder = experiment(one=[FLIP], two=[FLIP], three=[CROP], four=[])
    arms, _ = read_experiment(folder, ("one", "two", "three", "four"))
    shots = augmented_images(arms)
    captions = [shot.caption.partition(":")[0] for shot in shots]
    assert captions == ["one, two", "three"]
    assert "of one, two: in each row an original" in shots[0].alt
    assert (shots[0].width, shots[0].height) == (60, 40)


def test_the_page_shows_what_training_saw(experiment):
    folder = experiment(plain=[], changed=[FLIP])
    html = build_report(folder, title="two").read_text()
    assert html.count("changed: HorizontalFlip probability 0.5") == 1
    assert html.index('id="data"') < html.index("randomly augmented versions")
    assert "Augmented training images, drawn" in html


def test_without_augmentation_the_page_says_nothing_of_it(experiment):
    html = build_report(experiment(plain=[]), title="one").read_text()
    assert "Augmented training images" not in html
