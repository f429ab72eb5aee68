"""What the precision-recall figures draw, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from jaxmed.report.figures.discrimination import (
    draw_binary_precision_recall,
    draw_class_precision_recall,
    precision_recall,
)
from jaxmed.runs.record import read_experiment, read_run


def lines(figure):
    """The lines with a name in the legend."""
    drawn = figure.axes[0].get_lines()
    return {
        line.get_label(): line for line in drawn if not line.get_label().startswith("_")
    }


def area(recall, precision):
    """Of a curve whose precision holds to the left of its point."""
    return np.sum(np.diff(recall) * precision[1:])


def test_drawn_curves_are_scikit_learns(binary_folder):
    arms, _ = read_experiment(binary_folder)
    drawn = lines(draw_binary_precision_recall(arms))
    for arm in arms:
        test = arm.first.predictions["test"]
        truth, scores = test.labels == 1, test.probs[:, 1]
        value = average_precision_score(truth, scores)
        line = drawn[f"{arm.name}, AUPRC {value:.3f}"]
        recall, precision = line.get_data()
        assert line.get_drawstyle() == "steps-pre"
        assert area(recall, precision) == pytest.approx(value, abs=1e-12)
        expected = precision_recall_curve(truth, scores)
        points = set(zip(expected[1], expected[0], strict=True))
        assert set(zip(recall[1:], precision[1:], strict=True)) <= points
    prevalence = arms[0].first.predictions["test"].labels.mean()
    line = drawn[f"prevalence {prevalence:.2f}"]
    assert set(line.get_ydata()) == {prevalence}


def test_the_band_is_around_the_curve(binary_folder):
    arms, _ = read_experiment(binary_folder, ["scratch"])
    figure = draw_binary_precision_recall(arms[:1])
    (band,) = figure.axes[0].collections
    (outline,) = [path.vertices for path in band.get_paths()]
    test = arms[0].first.predictions["test"]
    recall, precision = precision_recall(test, 1)
    for at in (0.25, 0.5, 0.75):
        ends = outline[np.isclose(outline[:, 0], at), 1]
        value = precision[np.searchsorted(recall, at)]
        assert ends.min() <= value <= ends.max()
        assert ends.min() < ends.max()


def test_each_class_and_their_mean(multiclass_folder):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    test = run.predictions["test"]
    drawn = lines(draw_class_precision_recall(run))
    values = [
        average_precision_score(test.labels == i, test.probs[:, i]) for i in range(4)
    ]
    for i, name in enumerate(("basophil", " _eosinophil")):
        line = drawn[f"{name} {values[i]:.3f}"]
        assert area(*line.get_data()) == pytest.approx(values[i], abs=1e-12)
    macro = drawn[f"macro {np.mean(values):.3f}"]
    assert macro.get_ydata().mean() == pytest.approx(np.mean(values), abs=0.01)
    assert "mean prevalence 0.25" in drawn


def test_a_class_that_the_split_lacks_has_no_curve(multiclass_folder):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    run.predictions["test"].labels[:] = 0
    assert precision_recall(run.predictions["test"], 1) is None
    names = lines(draw_class_precision_recall(run))
    assert len(names) == 2
