"""Tests of the page's content: its numbers, its escaping, and what may be missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from jaxmed.evaluation import paired_difference
from jaxmed.report import build_report, read_run
from jaxmed.report.tables.formatting import metric_title


class Page(HTMLParser):
    """The tables of a page as {(caption, row, column): exact value or text}."""

    def __init__(self, html: str):
        super().__init__()
        self.cells: dict[tuple[str, int, int], str] = {}
        self.addresses: list[str] = []
        self.scripts = 0
        self._caption, self._row, self._column = "", -1, -1
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.scripts += tag == "script" and "type" not in known
        self.addresses += [known[k] for k in ("src", "href") if k in known]
        if tag == "caption":
            self._caption, self._row, self._inside = "", -1, tag
        elif tag == "tr":
            self._row, self._column = self._row + 1, -1
        elif tag in ("th", "td"):
            self._column += 1
            self._inside = tag
        elif tag == "data":
            self._put(known["value"] + "|")

    def handle_endtag(self, tag):
        if tag in ("caption", "th", "td"):
            self._inside = ""

    def handle_data(self, data):
        if self._inside == "caption":
            self._caption += data
        elif self._inside:
            self._put(data)

    def _put(self, text):
        key = (self._caption, self._row, self._column)
        self.cells[key] = self.cells.get(key, "") + text

    def table(self, caption: str) -> dict[tuple[str, str], str]:
        """One table as {(row name, column name): content}."""
        cells = {k[1:]: v for k, v in self.cells.items() if k[0] == caption}
        assert cells, caption
        return {
            (cells.get((row, 0), ""), cells.get((0, column), "")): text
            for (row, column), text in cells.items()
            if row and column
        }


def exact(content: str) -> float:
    """The exact number of a cell: what its value attribute holds."""
    return float(content.partition("|")[0])


@pytest.fixture(scope="module")
def multiclass_html(multiclass_folder: Path) -> str:
    path = build_report(multiclass_folder, title="cells", description="")
    return path.read_text(encoding="utf-8")


def test_numbers_of_several_seeds_are_their_means(binary_html, binary_folder):
    table = Page(binary_html).table("Test split, 160 images")
    for arm in ("scratch", "two_phase"):
        metrics = [
            json.loads((binary_folder / arm / f"seed-{n}" / "metrics.json").read_text())
            for n in (0, 1)
        ]
        of_rows = {
            "AUROC": ("test", "auroc"),
            "accuracy": ("test_at_threshold", "accuracy"),
            "accuracy at 0.5": ("test", "accuracy"),
            "MCC": ("test_at_threshold", "mcc"),
        }
        for row, (part, name) in of_rows.items():
            values = [one[part][name]["value"] for one in metrics]
            assert exact(table[row, arm]) == pytest.approx(np.mean(values), abs=1e-12)
            assert "retrained [" in table[row, arm]


def test_differences_are_paired(binary_html, binary_folder):
    table = Page(binary_html).table("Difference from scratch, paired by image")
    tests = {
        arm: [
            read_run(binary_folder / arm / f"seed-{n}").predictions["test"]
            for n in (0, 1)
        ]
        for arm in ("scratch", "two_phase")
    }
    cell = table["two_phase", "AUROC"]
    means = {
        arm: np.mean([roc_auc_score(p.labels, p.probs[:, 1]) for p in predictions])
        for arm, predictions in tests.items()
    }
    expected = means["two_phase"] - means["scratch"]
    assert exact(cell) == pytest.approx(expected, abs=1e-12)
    # The resamples and the seed are those of metrics.json.
    found = paired_difference(
        tests["two_phase"], tests["scratch"], "auroc", resamples=400, seed=0
    )
    for one in (found["delong"], found["another_training"]):
        assert f"[{one['ci_low']:+.3f}, {one['ci_high']:+.3f}]" in cell
    retrained = exact(table["two_phase", "AUROC, p, retrained"])
    assert retrained == pytest.approx(found["another_training"]["p"])
    low = found["another_training"]["ci_low"]
    assert low > 0
    # The headline rests on another training.
    assert f"{expected:.3f} [{low:.3f}, " in binary_html
    assert "Brackets are 95 % intervals for retrained models" in binary_html
    assert "above scratch" in binary_html


def test_threshold_table_is_the_lowest_seed(binary_html, binary_folder):
    table = Page(binary_html).table("At the threshold chosen on val")
    path = binary_folder / "scratch" / "seed-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    assert (
        exact(table["threshold", "scratch (seed 0)"]) == metrics["threshold"]["value"]
    )
    for name in ("sensitivity", "specificity", "ppv"):
        stated = metrics["test_at_threshold"][name]
        cell = table[metric_title(name), "scratch (seed 0)"]
        assert exact(cell) == stated["value"]
        assert f"[{stated['ci_low']:.3f}, {stated['ci_high']:.3f}]" in cell


def test_class_and_confusion_tables_equal_metrics_json(
    multiclass_html, multiclass_folder
):
    page = Page(multiclass_html)
    path = multiclass_folder / "frozen" / "seed-3" / "metrics.json"
    metrics = json.loads(path.read_text())
    table = page.table("Decided by the largest probability")
    counts = page.table("Counts")
    names = metrics["class_names"]
    for i, name in enumerate(names):
        stated = metrics["per_class"]["test"][name]
        for column in ("precision", "recall", "F1", "AUROC"):
            assert exact(table[name, column]) == stated[column.lower()]["value"]
        assert exact(table[name, "support"]) == stated["support"]
        for j, other in enumerate(names):
            expected = metrics["confusion_matrix"]["test"][i][j]
            assert exact(counts[name, other]) == expected
    thresholds = page.table("At one-vs-rest thresholds chosen on val")
    stated = metrics["test_at_threshold"][names[2]]["sensitivity"]["value"]
    assert exact(thresholds[names[2], "sensitivity"]) == stated


def test_calibration_and_groups(multiclass_html, multiclass_folder):
    page = Page(multiclass_html)
    metrics = read_run(multiclass_folder / "frozen" / "seed-3").metrics
    table = page.table("Calibration on the test split")
    stated = metrics["calibration"]["temperature"]
    assert exact(table["temperature", "frozen"]) == stated
    for row, name in (("ECE", "ece"), ("ECE, after scaling", "ece_calibrated")):
        stated = metrics["calibration"]["test"][name]["value"]
        assert exact(table[row, "frozen"]) == stated
    groups = page.table("Groups of parameters, by phase")
    assert exact(groups["all", "parameters"]) == 11_177_538
    assert exact(groups["head", "parameters"]) == 1026


def test_published_beside_measured(binary_html, binary_folder):
    page = Page(binary_html)
    rows = {
        (page.cells[key], page.cells["By arm and metric", key[1], 1]): key[1]
        for key in page.cells
        if key[0] == "By arm and metric" and key[2] == 0 and key[1]
    }
    at = {
        name: [page.cells.get(("By arm and metric", row, c), "") for c in range(6)]
        for name, row in rows.items()
    }
    values = [
        read_run(binary_folder / "two_phase" / f"seed-{n}").metrics["val"]["accuracy"][
            "value"
        ]
        for n in (0, 1)
    ]
    row = at["two_phase", "val accuracy"]
    assert exact(row[2]) == 0.964
    assert exact(row[3]) == pytest.approx(np.mean(values), abs=1e-12)
    assert exact(row[4]) == pytest.approx(np.mean(values) - 0.964, abs=1e-12)
    assert row[5] == "<b>"
    assert at["full", "val accuracy"][3] == "–"
    history = read_run(binary_folder / "two_phase" / "seed-0").history
    gaps = [
        row["train_accuracy"] - value
        for row, value in zip(history, (0.6, 0.7, 0.8), strict=False)
    ]
    by_epoch = at["two_phase", "train accuracy"]
    assert by_epoch[2] == "0.600 0.700 0.800"
    assert exact(by_epoch[4]) == max(gaps, key=abs)
    assert exact(at["two_phase", "test sensitivity"][3]) > 0.5


@pytest.mark.parametrize("which", ["binary_html", "multiclass_html"])
def test_page_needs_nothing_but_itself(which, request):
    html = request.getfixturevalue(which)
    page = Page(html)
    assert page.scripts == 1
    assert all(one.startswith(("data:", "#")) for one in page.addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert len(html.encode()) < 10_000_000
    assert "Not for clinical use" in html
    assert "Nothing was selected on the test split." in html


def test_names_from_files_are_escaped(multiclass_html):
    assert "<script>alert" not in multiclass_html
    assert "\\u003cscript>alert" in multiclass_html
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp;" in multiclass_html


def test_figures_are_kept_beside_each_run(binary_html, binary_folder):
    for arm in ("scratch", "two_phase"):
        for seed in (0, 1):
            figures = binary_folder / arm / f"seed-{seed}" / "figures"
            for name in ("curves", "roc", "confusion"):
                with Image.open(figures / f"{name}.png") as image:
                    image.verify()
    assert not list(binary_folder.rglob(".unfinished-*"))


def test_no_pyplot_state_is_touched(binary_html):
    from matplotlib import pyplot, rcParams, rcParamsDefault

    assert pyplot.get_fignums() == []
    assert rcParams["font.size"] == rcParamsDefault["font.size"]
