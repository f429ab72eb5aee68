"""What the reliability diagrams draw, against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from jaxmed.evaluation.metrics.calibration_error import BINS
from jaxmed.report.figures.probability_curves import draw_reliability
from jaxmed.runs.record import read_run


@pytest.fixture(scope="module", params=["binary", "multiclass", "multilabel"])
def run(request, tmp_path_factory, write_experiment):
    folder = tmp_path_factory.mktemp(request.param) / "frozen" / "seed-0"
    classes = 2 if request.param == "binary" else 3
    write_experiment(folder, request.param, classes=classes, n=300)
    return read_run(folder)


def rightness(run, calibrated):
    """Probabilities, and whether what they are of is so."""
    test = run.predictions["test"]
    probs = torch.tensor(test.probs)
    if calibrated:
        temperature = run.metrics["calibration"]["temperature"]
        if run.task == "multilabel":
            probs = torch.sigmoid(torch.logit(probs) / temperature)
        else:
            probs = torch.softmax(torch.log(probs) / temperature, dim=1)
    probs = probs.numpy()
    if run.task == "binary":
        return test.labels == 1, probs[:, 1]
    if run.task == "multilabel":
        return test.labels.ravel() == 1, probs.ravel()
    return probs.argmax(axis=1) == test.labels, probs.max(axis=1)


def test_points_are_scikit_learns(run):
    upper, _ = draw_reliability(run).axes
    bars = dict(zip(("before", "after"), upper.containers, strict=True))
    for when, container in bars.items():
        assert container.get_label().startswith(f"{when} scaling, ECE 0.")
        right, probs = rightness(run, calibrated=when == "after")
        observed, predicted = calibration_curve(right, probs, n_bins=BINS)
        line, _, (uprights,) = container
        assert line.get_xdata() == pytest.approx(predicted, abs=1e-6)
        assert line.get_ydata() == pytest.approx(observed, abs=1e-12)
        places = np.clip(np.ceil(probs * BINS).astype(int) - 1, 0, BINS - 1)
        for place, ends in zip(np.unique(places), uprights.get_segments(), strict=True):
            inside = right[places == place]
            found = binomtest(int(inside.sum()), len(inside)).proportion_ci(
                method="wilson"
            )
            assert ends[:, 1] == pytest.approx((found.low, found.high), abs=1e-9)


def test_the_histogram_counts_every_probability(run):
    _, lower = draw_reliability(run).axes
    for calibrated, stairs in zip((False, True), lower.patches, strict=True):
        _, probs = rightness(run, calibrated)
        counts, edges, _ = stairs.get_data()
        expected, _ = np.histogram(probs, bins=edges)
        assert counts == pytest.approx(expected, abs=0)
        assert counts.sum() == probs.size


def test_an_older_run_has_no_diagram(run):
    del run.metrics["calibration"]["reliability"]
    assert draw_reliability(run) is None
