"""Tests of the picture of range tests."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.report.figures.style import png
from jaxmed.report.figures.training_curves import Panel, draw_range_tests

RATES = np.geomspace(1e-7, 1, 100)
LOSSES = 2 - 1 / (1 + np.exp((50 - np.arange(100)) / 3))
PANEL = Panel(
    title="all: head",
    rates=RATES,
    losses=LOSSES + 0.01 * np.sin(np.arange(100)),
    smoothed=LOSSES,
    own=1e-3,
    steepest=float(RATES[50]),
    valley=float(RATES[45]),
)
NO_SUGGESTION = replace(PANEL, own=0.0, steepest=None, valley=None, note="No fall.")


def drawn(axes):
    return {str(line.get_label()): line for line in axes.get_lines()}


def said(axes):
    return [text.get_text() for text in axes.texts]


def test_a_panel_marks_its_suggestions_and_the_recipes_rate():
    figure = draw_range_tests([PANEL], "mine, full: range test")
    (axes,) = figure.axes
    lines = drawn(axes)
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(lines["loss"].get_ydata(), PANEL.losses)
    np.testing.assert_array_equal(lines["smoothed"].get_ydata(), PANEL.smoothed)
    for name, rate in (("steepest", RATES[50]), ("valley", RATES[45])):
        x, y = lines[name].get_data()
        assert np.ravel(x) == [rate]
        assert np.ravel(y) == pytest.approx(LOSSES[rate == RATES])
    assert lines["rate of the recipe"].get_xdata() == [1e-3, 1e-3]
    assert said(axes) == ["steepest 3.43e-4, valley 1.52e-4"]
    assert axes.get_title(loc="left") == "all: head"


def test_without_a_suggestion_the_note_is_shown_and_a_rate_of_zero_is_not():
    (axes,) = draw_range_tests([NO_SUGGESTION], "mine").axes
    assert said(axes) == ["No fall."]
    assert drawn(axes).keys() == {"loss", "smoothed"}


def test_a_loss_that_diverges_leaves_the_panel():
    losses = PANEL.losses.copy()
    losses[80:] = 1e6
    panel = replace(PANEL, losses=losses, smoothed=np.where(losses > 9, 9, LOSSES))
    (axes,) = draw_range_tests([panel], "mine").axes
    low, high = axes.get_ylim()
    assert low < losses.min() < 2.01 < high < 3


def test_many_panels_share_one_legend_and_one_range_of_rates():
    short = replace(NO_SUGGESTION, rates=RATES[:9], losses=LOSSES[:9])
    short = replace(short, smoothed=LOSSES[:9])
    figure = draw_range_tests([short, PANEL, PANEL, PANEL], "mine")
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert len(visible) == 4
    assert len({axes.get_xlim() for axes in visible}) == 1
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    kinds = ["loss", "rate of the recipe", "smoothed", "steepest", "valley"]
    assert sorted(names) == kinds
    assert [bool(axes.get_xlabel()) for axes in visible] == [False, True, True, True]
    assert png(figure)
