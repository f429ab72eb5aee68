"""Figures drawn by several processes: the same ones, whatever becomes of these."""

import pytest

from jaxmed.report.figures import workers
from jaxmed.report.figures.strategy_diagram import rate_scale
from jaxmed.report.figures.training_curves import common_limits
from jaxmed.report.figures.workers import RunPictures
from jaxmed.runs.record import read_experiment


@pytest.fixture
def runs(binary_folder):
    arms, _ = read_experiment(binary_folder, None)
    return [arm.first for arm in arms]


def draw(runs, counted):
    options = common_limits(runs), rate_scale(runs), ()
    with RunPictures(runs, *options) as pictures:
        drawn = pictures.collect(counted.append)
    assert sum(counted) == len(runs)
    return drawn


@pytest.mark.slow
def test_other_processes_draw_the_same(runs, monkeypatch):
    alone = draw(runs, [])
    monkeypatch.setattr(workers, "FEWEST", 1)
    monkeypatch.setattr(workers, "count_processors", lambda: 2)
    # This process draws nothing, so that the other one draws all.
    monkeypatch.setattr(workers, "draw_unclaimed", lambda *_: 0)
    assert draw(runs, []) == alone


def test_a_process_that_fails_leaves_its_runs_to_this_one(runs, monkeypatch):
    monkeypatch.setattr(workers, "FEWEST", 1)
    monkeypatch.setattr(workers, "count_processors", lambda: 2)
    claim = "open({folder!r} + '/0.claim', 'x'); raise SystemExit(1)"
    monkeypatch.setattr(workers, "WORK", f"# {{path!r}}\n{claim}")
    monkeypatch.setattr(workers, "draw_unclaimed", lambda *_: 0)
    (drawn,) = draw(runs[:1], [])
    assert {"curves", "roc", "confusion"} < drawn.keys()
    assert all(picture.png.startswith(b"\x89PNG") for picture in drawn.values())
