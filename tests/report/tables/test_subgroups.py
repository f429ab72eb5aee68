"""Forest plots and tables of subgroups, against scikit-learn."""

import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from jaxmed.report import build_report
from jaxmed.report.tables.subgroups import (
    draw_subgroups,
    subgroup_columns,
    subgroup_table,
)
from jaxmed.runs.record import read_experiment


@pytest.fixture(scope="module")
def arms(columns_folder):
    found, _ = read_experiment(columns_folder)
    return found


def parts(test):
    """Rows of each site, in the order of the figure."""
    sites = np.array([site or "not known" for site in test.columns["site"]])
    return {name: sites == name for name in sorted(set(sites))}


def test_the_table_is_scikit_learns(arms):
    table = subgroup_table(arms, "site")
    assert table.head[:3] == ("site", "arm", "images")
    rows = {(row[0].text, row[1].text): row for row in table.rows}
    assert len(rows) == 8
    for arm in arms:
        test, metrics = arm.first.predictions["test"], arm.first.metrics
        for name, chosen in parts(test).items():
            row = dict(zip(table.head, rows[name, arm.name], strict=True))
            labels, scores = test.labels[chosen], test.probs[chosen, 1]
            assert row["images"].exact == chosen.sum()
            assert bool(row["images"].range) == (chosen.sum() < 30)
            auroc = roc_auc_score(labels, scores)
            assert row["AUROC"].exact == pytest.approx(auroc, abs=1e-12)
            decided = scores >= metrics["threshold"]["value"]
            sensitivity = recall_score(labels, decided)
            assert row["sensitivity"].exact == pytest.approx(sensitivity, abs=1e-12)


def test_points_are_the_tables_and_those_of_small_groups_hollow(arms):
    axes = draw_subgroups(arms, "site").axes[0]
    points = [
        line
        for line in axes.get_lines()
        if line.get_marker() not in ("None", None) and len(line.get_xdata())
    ]
    expected = []
    for _, chosen in {"all": slice(None), **parts(points_of(arms[0]))}.items():
        for arm in arms:
            test = points_of(arm)
            expected.append(
                (
                    roc_auc_score(test.labels[chosen], test.probs[chosen, 1]),
                    len(test.labels[chosen]) < 30,
                )
            )
    assert len(points) == len(expected)
    for point, (auroc, small) in zip(points, expected, strict=True):
        assert point.get_xdata()[0] == pytest.approx(auroc, abs=1e-12)
        assert (point.get_markerfacecolor() == "white") == small
    texts = [text.get_text() for text in axes.texts]
    assert "all images" in texts
    assert "n = 160" in texts
    assert "site: not known" in texts


def points_of(arm):
    return arm.first.predictions["test"]


def test_a_column_of_too_many_values_says_so(arms):
    assert subgroup_columns(arms) == ["site", "a/b"]
    assert draw_subgroups(arms, "a/b") is None
    table = subgroup_table(arms, "a/b")
    assert table.rows == ()
    assert table.note.startswith("No numbers: 40 different values")


def test_the_page_has_them(columns_folder, binary_html, tmp_path):
    folder = tmp_path / "columns"
    shutil.copytree(columns_folder, folder)
    html = build_report(folder, title="t").read_text(encoding="utf-8")
    assert "Test split by site" in html
    assert "No numbers: 40 different values" in html
    assert "(fewer than 30 images)" in html
    assert "<script>alert" not in html
    assert 'id="subgroups"' not in binary_html


def test_arms_without_the_column_have_no_picture_of_it(columns_folder, tmp_path):
    folder = tmp_path / "columns"
    shutil.copytree(columns_folder, folder)
    path = folder / "scratch" / "seed-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["subgroups"]["site"]
    path.write_text(json.dumps(metrics))
    found, _ = read_experiment(folder)
    assert subgroup_columns(found) == ["a/b"]
