"""The panel on the faithfulness of maps: figure, table, and nothing without numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxmed.report import read_run
from jaxmed.report.figures.faithfulness_curves import draw_faithfulness
from jaxmed.report.tables.faithfulness import faithfulness_table

SHARES = [0.0, 0.5, 1.0]
CURVES = {
    "insertion": [0.1, 0.7, 0.9],
    "insertion_random": [0.1, 0.4, 0.9],
    "deletion": [0.9, 0.2, 0.1],
    "deletion_random": [0.9, 0.5, 0.1],
}


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "ci_low": value - 0.05, "ci_high": value + 0.05}


@pytest.fixture
def run(binary_folder: Path):
    areas = {n: float(np.trapezoid(curve, SHARES)) for n, curve in CURVES.items()}
    others = {"insertion_gain": 0.15, "deletion_gain": 0.15, "road": 0.2}
    others |= {"rank_correlation": 0.3, "similarity": 0.25}
    measures = {
        "method": "layer_cam",
        "layer": "layer3",
        "images": 20,
        "degenerate": 2,
        "metrics": {n: estimate(value) for n, value in (areas | others).items()},
        "shares": SHARES,
        "curves": CURVES,
    }
    return replace(
        read_run(binary_folder / "scratch" / "seed-0"), faithfulness=measures
    )


def test_curves_of_the_maps_and_of_random_ones_are_drawn(run):
    figure = draw_faithfulness(run)
    assert figure is not None
    for axes, name in zip(figure.axes, ("insertion", "deletion"), strict=True):
        drawn = [line.get_ydata() for line in axes.lines]
        assert [list(y) for y in drawn] == [CURVES[name], CURVES[f"{name}_random"]]
        assert len({line.get_linestyle() for line in axes.lines}) == 2
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words[0] == "LayerCAM, areas 0.600 and 0.350"
    assert words[1] == "random maps, areas 0.450 and 0.500"


def test_the_table_has_every_measure_with_its_gain(run):
    table = faithfulness_table(run)
    assert table is not None
    assert table.caption == "LayerCAM of layer3"
    rows = {row[0].text: row[1:] for row in table.rows}
    maps, random, gain = rows["insertion, area ↑"]
    assert (maps.exact, random.exact) == pytest.approx((0.6, 0.45))
    assert (gain.text, gain.range) == ("+0.150", "[+0.100, +0.200]")
    assert [cell.text for cell in rows["ROAD ↑"]] == ["0.200", "–", "–"]
    assert table.note.startswith("20 test images drawn at random")
    assert "Of 2 more the map is no evidence." in table.note


def test_no_evidence_is_a_reason_and_no_measures_are_no_panel(run):
    measures = {"method": "grad_cam", "layer": None, "images": 0, "reason": "None is."}
    nothing = replace(run, faithfulness=measures)
    assert draw_faithfulness(nothing) is None
    table = faithfulness_table(nothing)
    assert table is not None
    assert (table.caption, table.rows) == ("Grad-CAM: None is.", ())
    without = replace(run, faithfulness={})
    assert draw_faithfulness(without) is None
    assert faithfulness_table(without) is None
