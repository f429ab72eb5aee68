"""Tests of the training curves' panel of learning rates."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxmed.report import read_run
from jaxmed.report.figures.style import format_rate, png
from jaxmed.report.figures.training_curves import common_limits, draw_curves, rates_vary
from jaxmed.runs.record import HistoryRow, RunRecord


def history(phases: str, **rates: list[float]) -> tuple[HistoryRow, ...]:
    """A row per letter of `phases`, which is its phase."""
    rows = []
    for index, phase in enumerate(phases):
        values = {"epoch": 1.0, "train_loss": 0.5, "val_loss": 0.6}
        values |= {f"lr_{group}": rate[index] for group, rate in rates.items()}
        rows.append(HistoryRow(phase=phase, values=values))
    return tuple(rows)


@pytest.fixture(scope="module")
def runs(binary_folder: Path) -> list[RunRecord]:
    """One with a schedule and one without."""
    arms = ("two_phase", "scratch")
    return [read_run(binary_folder / arm / "seed-0") for arm in arms]


def rate_lines(figure: Figure) -> dict[str, np.ndarray]:
    """The learning rates that the lowest panel shows, by name in the legend."""
    lines = {str(li.get_label()): li.get_ydata() for li in figure.axes[2].get_lines()}
    return {n: np.asarray(y) for n, y in lines.items() if n.startswith("rate")}


def test_rates_vary_only_where_they_change_within_a_phase(runs):
    rest = [math.nan, math.nan, 0.1, 0.1]
    for phases, expected in (("aabb", False), ("aaab", True), ("aaaa", True)):
        rows = history(phases, head=[1e-3, 1e-3, 1e-4, 1e-4], rest=rest)
        assert rates_vary(replace(runs[0], history=rows)) is expected
    assert not rates_vary(replace(runs[0], history=()))


def test_panel_of_rates_has_a_line_per_group_on_a_logarithmic_axis(runs):
    limits = common_limits(runs)
    figure = draw_curves(runs[0], limits)
    panel = figure.axes[2]
    assert panel.get_yscale() == "log"
    assert panel.get_ylim() == limits[2]
    assert panel.get_ylim()[0] < 2e-6 < 1e-3 < panel.get_ylim()[1]
    lines = rate_lines(figure)
    head = 1e-3 / np.array([1, 1, 1, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(lines["rate of head"], head)
    rest = lines["rate of backbone"]
    np.testing.assert_allclose(rest, np.where(np.arange(8) < 3, np.nan, head / 100))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {*lines, "selected epoch"} < set(names)
    figure.draw_without_rendering()
    assert "1e-4" in [text.get_text() for text in panel.get_yticklabels()]


def test_arms_beside_one_with_a_schedule_have_the_panel_too(runs):
    assert len(rate_lines(draw_curves(runs[1], common_limits(runs)))) == 2
    alone = common_limits(runs[1:])
    assert alone[2] is None
    assert len(draw_curves(runs[1], alone).axes) == 2


def test_rates_that_fall_to_nothing_are_drawn(runs):
    rates = {f"group {i}": [1e-3, 1e-30, 0.0] for i in range(12)}
    run = replace(runs[0], history=history("aaa", **rates))
    limits = common_limits([run])
    assert limits[2] == pytest.approx((1e-9 / 1.6, 1.6e-3))
    figure = draw_curves(run, limits)
    assert len(rate_lines(figure)) == 12
    assert png(figure)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (1e-4, "1e-4"),
        (2.5e-5, "2.5e-5"),
        (1.25e-4, "1.25e-4"),
        (3.125e-5, "3.13e-5"),
        (0.05, "5e-2"),
        (0.1, "0.1"),
        (1, "1"),
        (0, "0"),
        (1e-12, "1e-12"),
        (9.999e-5, "1e-4"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_rates_are_spelt_shortly(rate, text):
    assert format_rate(rate) == text
