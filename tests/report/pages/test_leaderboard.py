"""The page and the CSV of several sets, of drawn predictions."""

import csv
import json
import math
import re
from pathlib import Path

import pytest

from jaxmed.config.published import PublishedResults, read_published_results
from jaxmed.errors import InputError
from jaxmed.evaluation import arm_summary
from jaxmed.report.pages.leaderboard import build_leaderboard
from jaxmed.runs.record import read_run

PUBLISHED = {
    "source": "Somebody <2023>",
    "methods": ["ResNet-18 (28)", "ResNet-50 (28)"],
    "auroc": {"two": [0.901, math.nan], "many": [0.75, 0.625]},
    "accuracy": {"two": [0.863, 0.812]},
}
SETS = ["many", "lost", "two", "three"]
METHODS = ("scratch", "frozen", *PUBLISHED["methods"])


@pytest.fixture(scope="module")
def board(tmp_path_factory, write_experiment) -> Path:
    """Three sets: `scratch` has two seeds in one of them, `frozen` is not in all."""
    folder = tmp_path_factory.mktemp("board")
    for seed in (0, 1):
        run = folder / "two" / "scratch" / f"seed-{seed}"
        write_experiment(run, "binary", classes=2)
    write_experiment(folder / "two" / "frozen" / "seed-0", "binary", classes=2)
    write_experiment(folder / "many" / "scratch" / "seed-0", "multilabel", classes=3)
    write_experiment(folder / "three" / "scratch" / "seed-0", "multiclass", classes=3)
    (folder / "three" / "frozen" / "seed-0").mkdir(parents=True)
    build(folder)
    return folder


def build(folder: Path, **changes) -> Path:
    options = {
        "title": "Board",
        "description": "of <b>sets",
        "sets": SETS,
        "arms": ["scratch", "frozen"],
        "published": read_published_results(PUBLISHED, SETS, "recipe"),
    }
    return build_leaderboard(folder, **options | changes)


def read_rows(board: Path) -> list[dict[str, str]]:
    with (board / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_cells(board: Path, caption: str) -> dict[tuple[str, str], str]:
    """The exact numbers of a table of the page, "" where there is none."""
    page = (board / "leaderboard.html").read_text()
    table = page.partition(f"<caption>{caption}</caption>")[2].partition("</table>")[0]
    cells = {}
    for name, rest in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table, re.S):
        values = [re.findall(r'value="([^"]*)"', td) for td in rest.split("</td>")]
        for method, found in zip(METHODS, values[:-1], strict=True):
            cells[name, method] = found[0] if found else ""
    return cells


def test_rows_are_the_runs_and_what_is_published(board):
    rows = read_rows(board)
    assert [(row["set"], row["method"], row["seed"]) for row in rows] == [
        ("many", "scratch", "0"),
        ("many", "ResNet-18 (28)", ""),
        ("many", "ResNet-50 (28)", ""),
        ("two", "scratch", "0"),
        ("two", "scratch", "1"),
        ("two", "scratch", "mean"),
        ("two", "frozen", "0"),
        ("two", "ResNet-18 (28)", ""),
        ("two", "ResNet-50 (28)", ""),
        ("three", "scratch", "0"),
        ("three", "ResNet-18 (28)", ""),
        ("three", "ResNet-50 (28)", ""),
    ]
    for row in rows:
        if row["seed"].isdecimal():
            run = board / row["set"] / row["method"] / f"seed-{row['seed']}"
            test = json.loads((run / "metrics.json").read_text())["test"]
            for metric in ("auroc", "accuracy"):
                assert float(row[metric]) == test[metric]["value"]
                for end in ("ci_low", "ci_high"):
                    assert float(row[f"{metric}_{end}"]) == test[metric][end]
        elif not row["seed"]:
            index = PUBLISHED["methods"].index(row["method"])
            for metric in ("auroc", "accuracy"):
                numbers = PUBLISHED[metric].get(row["set"], [math.nan] * 2)
                known = not math.isnan(numbers[index])
                assert row[metric] == (str(numbers[index]) if known else "")
                assert row[f"{metric}_ci_low"] == ""
            assert row["source"] == "Somebody <2023>"


def test_the_mean_of_seeds_has_the_interval_of_the_mean(board):
    row = next(row for row in read_rows(board) if row["seed"] == "mean")
    runs = [read_run(board / "two" / "scratch" / f"seed-{seed}") for seed in (0, 1)]
    tests = [run.predictions["test"] for run in runs]
    expected = arm_summary(tests, "auroc", resamples=400, seed=0)
    assert float(row["auroc"]) == expected["value"]
    assert float(row["auroc_ci_low"]) == expected["ci_low"]
    again = expected["another_training"]
    assert float(row["auroc_retrained_ci_low"]) == again["ci_low"] < expected["ci_low"]
    values = [run.metrics["test"]["auroc"]["value"] for run in runs]
    assert expected["value"] == pytest.approx(sum(values) / 2, abs=1e-12)


def test_the_page_has_exactly_the_numbers_of_the_csv(board):
    titles = {"auroc": "AUROC", "accuracy": "accuracy (most probable class)"}
    for metric, title in titles.items():
        cells = read_cells(board, f"Test {title}")
        names = {"many", "two", "three"}
        assert {name for name, _ in cells} == names | {"mean over 3 sets"}
        # The last row of a method is the mean of its seeds.
        rows = {(row["set"], row["method"]): row[metric] for row in read_rows(board)}
        shown = {place: value for place, value in cells.items() if place[0] in names}
        assert shown == {place: rows.get(place, "") for place in shown}
        means = {method: cells["mean over 3 sets", method] for method in METHODS}
        of_sets = [float(rows[name, "scratch"]) for name in names]
        assert float(means.pop("scratch")) == pytest.approx(sum(of_sets) / 3, abs=1e-12)
        # Everything else lacks a set.
        assert set(means.values()) == {""}


def test_the_page_needs_nothing_else_and_escapes_names(board):
    page = (board / "leaderboard.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#|\w+/report\.html")', page)
    assert "<script" not in page
    assert "of &lt;b&gt;sets" in page
    assert "Somebody &lt;2023&gt;" in page
    assert "No finished run: lost." in page
    assert "frozen/seed-0" in page


def test_the_page_is_the_same_when_built_again(board):
    files = [board / name for name in ("leaderboard.html", "leaderboard.csv")]
    before = [path.read_bytes() for path in files]
    build(board)
    assert [path.read_bytes() for path in files] == before


def test_nothing_published_leaves_no_trace(board, tmp_path):
    (tmp_path / "two").symlink_to(board / "two")
    page = build(tmp_path, published=PublishedResults(), sets=["two"]).read_text()
    assert "published" not in page.lower()
    rows = read_rows(tmp_path)
    assert {row["source"] for row in rows} == {"measured"}
    assert "mean over 1" not in page


def test_no_finished_run_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="no finished run in any of its sets"):
        build(tmp_path)
    assert not list(tmp_path.iterdir())
