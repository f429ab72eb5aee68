"""What `compare` prints and shows: the numbers behind it, its words and its page."""

import copy
import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jaxmed.evaluation import compare_arms
from jaxmed.evaluation.comparison.alignment import apply_thresholds
from jaxmed.report import read_run
from jaxmed.report.pages.comparison import build_comparison_page
from jaxmed.report.tables.comparison import (
    class_difference_table,
    comparison_rows,
    comparison_sentences,
    difference_table,
    method_sentences,
    spread_table,
    training_table,
)
from jaxmed.report.tables.formatting import format_p


def compare(folder: Path, *, seeds: int | None = None, **options) -> dict:
    """Compares the arms of an experiment's folder, as the command does."""
    arms = {}
    for path in sorted(folder.glob("*/seed-*")):
        run = read_run(path)
        arms.setdefault(run.arm, []).append(apply_thresholds(run.predictions["test"]))
    arms = {name: runs[:seeds] for name, runs in arms.items()}
    found = compare_arms(arms, resamples=100, **options)
    for arm in found["arms"].values():
        arm["runs"] = ["a folder"]
    return found | {"notes": ["A <note>."]}


@pytest.fixture(scope="module")
def binary(binary_folder) -> dict:
    return compare(binary_folder)


@pytest.fixture(scope="module")
def classes(multiclass_folder) -> dict:
    """Two runs on classes whose names HTML and matplotlib would misread."""
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    test = run.predictions["test"]
    probs = (test.probs + 0.5) / (1 + 0.5 * len(test.class_names))
    worse = replace(test, probs=probs[::-1].copy())
    arms = {
        "<b>worse</b>": [apply_thresholds(worse)],
        "better": [apply_thresholds(test)],
    }
    found = compare_arms(arms, resamples=50)
    for arm in found["arms"].values():
        arm["runs"] = ["a folder"]
    return found | {"notes": []}


def test_a_table_shows_both_values_their_difference_and_the_test(binary):
    (one,) = binary["comparisons"]
    table = difference_table(binary, one)
    assert table.head[1:4] == ("two_phase", "scratch", "difference")
    rows = {row[0].text: row for row in table.rows}
    for title, metric in (("AUROC", "auroc"), ("log loss ↓", "log_loss")):
        difference = one["metrics"][metric]
        row = rows[title]
        assert row[1].exact - row[2].exact == pytest.approx(difference["value"])
        assert row[3].exact == difference["value"]
        assert row[4].exact == difference["p"]
    assert rows["AUROC"][5].text == "DeLong"
    # The interval is that of the test beside it.
    ends = one["metrics"]["auroc"]["delong"]
    shown = rows["AUROC"][3].range.replace("−", "-")
    assert shown == f"[{ends['ci_low']:+.3f}, {ends['ci_high']:+.3f}]"
    assert class_difference_table(binary, one) is None


def test_another_training_has_a_table_of_its_own(binary, binary_folder):
    (one,) = binary["comparisons"]
    table = training_table(binary, one)
    assert table.caption == "two_phase − scratch: retrained models (seeds: 2 and 2)"
    again = one["metrics"]["auroc"]["another_training"]
    assert table.rows[0][2].exact == again["p"]
    assert table.rows[0][1].range.replace("−", "-") == (
        f"[{again['ci_low']:+.3f}, {again['ci_high']:+.3f}]"
    )
    assert table.rows[0][3].exact == again["df"]
    spread = {(r[0].text, r[1].text): r for r in spread_table(binary).rows}
    assert spread["scratch", "AUROC"][4].exact <= spread["scratch", "AUROC"][2].exact
    alone = compare(binary_folder, seeds=1)
    assert spread_table(alone) is None
    assert training_table(alone, alone["comparisons"][0]) is None
    assert "because of the seed" in " ".join(method_sentences(alone))
    assert "because of the seed" not in " ".join(method_sentences(binary))


def test_a_sentence_says_how_far_apart_and_how_surely(binary):
    (sentence,) = comparison_sentences(binary)
    auroc = binary["comparisons"][0]["metrics"]["auroc"]
    again = auroc["another_training"]
    assert sentence.startswith("two_phase has a test AUROC of ")
    assert f"{auroc['value']:.3f} [{again['ci_low']:.3f}, " in sentence
    assert sentence.endswith(
        f"above scratch; these models, DeLong: p < 0.001; retrained models: p = "
        f"{again['p']:.3f}."
    )


def test_what_is_not_clear_is_not_said_to_be(binary):
    found = copy.deepcopy(binary)
    found["comparisons"] *= 2
    auroc = found["comparisons"][0]["metrics"]["auroc"]
    auroc["another_training"] |= {"p": 0.03, "p_holm": 0.06}
    sentence = comparison_sentences(found)[0]
    assert "above scratch (p = 0.060, adjusted: not significant)" in sentence
    assert sentence.endswith(
        "p = 0.030, adjusted for 2 comparisons = 0.060, so no longer significant."
    )
    auroc["another_training"] |= {"ci_low": -0.1, "ci_high": 0.3}
    assert (
        "not significant: the interval includes zero" in comparison_sentences(found)[0]
    )
    for metric in ("auroc", "accuracy"):
        none = {"value": None, "reason": "one class only", "p": None, "test": None}
        none["another_training"] = {"p": None, "reason": "one class only"}
        found["comparisons"][0]["metrics"][metric] = none
    assert "neither AUROC nor accuracy is defined" in comparison_sentences(found)[0]


def test_p_values_for_people():
    assert [format_p(p) for p in (None, 0.0004, 0.0312, 1.0)] == [
        "–",
        "< 0.001",
        "0.031",
        "1.000",
    ]


def test_rows_hold_classes_and_seeds(binary, classes):
    on = [row["on"] for row in comparison_rows(binary)]
    assert on.count("images and seeds") == on.count("images") == 11
    of_classes = [row for row in comparison_rows(classes) if row["class"]]
    assert [row["class"] for row in of_classes] == classes["class_names"]
    assert {row["test"] for row in of_classes} == {"delong"}
    assert all(row["value_a"] is None for row in of_classes)


def exact_numbers(page: str) -> set[float]:
    return {float(value) for value in re.findall(r'<data value="([^"]*)">', page)}


def test_page_holds_every_number_and_needs_nothing_else(binary, tmp_path):
    path = tmp_path / "found.html"
    build_comparison_page(path, binary)
    page = path.read_text(encoding="utf-8")
    numbers = exact_numbers(page)
    for metric, difference in binary["comparisons"][0]["metrics"].items():
        assert difference["value"] in numbers, metric
        assert difference["p"] in numbers, metric
        assert difference["another_training"]["p"] in numbers | {None}, metric
    assert page.count("<img ") == 1
    assert set(re.findall(r'src="([^:]*):', page)) == {"data"}
    assert not re.search(r'(?:href|src)="(?!#|data:)', page)
    assert "A &lt;note&gt;." in page
    assert "Not for clinical use" in page
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert comparison_sentences(binary)[0] in text


def test_page_of_hostile_names_with_every_class(classes, tmp_path):
    path = tmp_path / "found.html"
    build_comparison_page(path, classes)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>worse" not in page
    numbers = exact_numbers(page)
    for metrics in classes["comparisons"][0]["per_class"].values():
        assert metrics["auroc"]["value"] in numbers
    assert page.count("<img ") == 2


def test_page_of_several_pairs_has_one_picture_for_all(binary_folder, tmp_path):
    arms = {}
    for path in sorted(binary_folder.glob("*/seed-*")):
        run = read_run(path)
        arms[f"{run.arm} {run.seed}"] = [apply_thresholds(run.predictions["test"])]
    found = compare_arms(arms, resamples=20)
    for arm in found["arms"].values():
        arm["runs"] = ["a folder"]
    path = tmp_path / "found.html"
    build_comparison_page(path, found | {"notes": []})
    page = path.read_text(encoding="utf-8")
    # AUROC and accuracy of all three pairs, and every pair alone.
    assert page.count("<img ") == 2 + 3
    assert "p (Holm)" in page
