"""The table of costs, and the summary where arms are many."""

import json
import shutil

from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.tables.provenance import cost_table
from jaxmed.report.tables.results import MANY_ARMS, summary_table
from jaxmed.runs.record import read_experiment


def test_costs_are_those_of_the_runs(binary_folder):
    arms, _ = read_experiment(binary_folder)
    table = cost_table(Comparison(arms))
    assert table.head[2:] == ("trained parameters", "epochs", "seconds", "images/s")
    for arm, row in zip(arms, table.rows, strict=True):
        run = arm.first
        environment = json.loads((run.folder / "environment.json").read_text())
        phases = environment["parameters"]["phases"]
        found = [cell.exact for cell in row[2:]]
        most = max(phase["trainable"] for phase in phases)
        assert found == [most, len(run.history), environment["seconds"], 219.0]
        assert row[1].exact == Comparison(arms).estimate(arm, "test", "auroc")["value"]


def test_costs_that_were_not_recorded_are_a_dash(binary_folder, tmp_path):
    shutil.copytree(binary_folder, tmp_path / "copy")
    for path in tmp_path.rglob("environment.json"):
        path.unlink()
    arms, _ = read_experiment(tmp_path / "copy")
    for row in cost_table(Comparison(arms)).rows:
        assert [row[2].text, row[4].text] == ["–", "–"]


def test_many_arms_are_rows(binary_folder, tmp_path):
    arms, _ = read_experiment(binary_folder)
    assert summary_table(Comparison(arms)).head[1:] == tuple(arm.name for arm in arms)
    for number in range(MANY_ARMS):
        copied = tmp_path / "copy" / f"arm{number}" / "seed-0"
        shutil.copytree(arms[0].first.folder, copied)
    shutil.copytree(arms[0].first.folder, tmp_path / "copy" / "another" / "seed-0")
    many, _ = read_experiment(tmp_path / "copy")
    table = summary_table(Comparison(many))
    assert [row[0].text for row in table.rows] == [arm.name for arm in many]
    assert table.head[:2] == ("arm", "AUROC")
