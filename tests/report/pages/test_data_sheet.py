"""The page of a data set: what it says, and that names in it do no harm."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxmed.report.page import embed_array
from jaxmed.report.pages.data_sheet import ROWS_SHOWN, draw_counts
from jaxmed.report.text.audit import finding_sentences, leakage_sentence


@pytest.fixture(scope="module")
def page(sheet: Path) -> str:
    return sheet.read_text("utf-8")


@pytest.fixture(scope="module")
def found(sheet: Path) -> dict:
    return json.loads(sheet.with_suffix(".json").read_text("utf-8"))


def test_names_are_escaped_and_nothing_is_loaded(page: str):
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    addresses = re.findall(r'(?:src|href)="([^"]{1,5})', page)
    assert addresses
    assert all(start.startswith(("data:", "#")) for start in addresses)


def test_the_verdict_counts_what_leaks(page: str, found: dict):
    assert found["leaks"] == {"exact": 15, "near": 1, "patients": 60}
    assert leakage_sentence(found).startswith(
        "Leakage: 15 exact duplicates, 1 near duplicate and 60 patients or groups in"
    )
    assert leakage_sentence(found) in page


def test_twelve_duplicates_are_shown_and_all_listed(page: str, found: dict):
    assert page.count('<div class="duplicates">') == 12
    duplicates = found["duplicates"]
    assert len(duplicates["exact"]) + len(duplicates["near"]) == 16
    table = page[page.index("Duplicates as a table") :]
    assert table.count("<tr>") >= 17


def test_patients_beyond_a_page_are_in_the_json(page: str, found: dict):
    assert f"And {60 - ROWS_SHOWN} more, in the JSON" in page
    assert len(found["patients"]["across"]) == 60


def test_blank_images_and_lonely_labels_are_told(found: dict):
    said = " ".join(finding_sentences(found))
    assert "Blank images, without contrast: test/" in said
    lonely = found | {"only_in": {"a": "val"}, "missing": {"train": ["a", "b"]}}
    said = " ".join(finding_sentences(lonely))
    assert "The class 'a' occurs in val only." in said
    assert "No image of 'b' in train." in said


def test_a_kind_of_file_in_one_class_only_is_told(found: dict):
    gray, both = {"L": 9}, {"L": 8, "RGB": 1}
    files = {
        "train": {"a": {"sizes": {}, "modes": gray}, "b": {"sizes": {}, "modes": both}},
        "val": {"a": {"sizes": {}, "modes": gray}, "b": {"sizes": {}, "modes": gray}},
    }
    said = finding_sentences(found | {"files": files})
    assert [one for one in said if " mode " in one] == [
        "In train, files of 'b' alone are of mode RGB."
    ]


def test_bars_are_the_counts():
    counts = {"train": {"a": 5, "b": 2}, "val": {"a": 1, "b": 0}}
    (axes,) = draw_counts(counts).axes
    widths = [bar.get_width() for bars in axes.containers for bar in bars]
    assert widths == [5, 2, 1, 0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("shape", "size"), [((28, 28, 1), (224, 224)), ((10, 100, 3), (200, 20)),
                        ((500, 448, 3), (224, 250)), ((1, 1, 1), (224, 224))]
)  # fmt: skip
def test_images_are_brought_near_one_width(shape, size):
    shot = embed_array(np.full(shape, 9, np.uint8), "nine")
    assert (shot.width, shot.height) == size
