"""What decision curves and risk-coverage curves draw, against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from jaxmed.evaluation import decision_curve
from jaxmed.evaluation.calibration import read_scaling
from jaxmed.evaluation.metrics.operating_points import RESAMPLES
from jaxmed.report.figures.probability_curves import (
    draw_decision_curves,
    draw_risk_coverage,
)
from jaxmed.runs.record import read_experiment


@pytest.fixture(scope="module")
def arms(binary_folder):
    found, _ = read_experiment(binary_folder)
    return found


def net_benefits(run, thresholds):
    """Vickers and Elkin 2006, of softmax(logits / temperature)."""
    test, temperature = run.predictions["test"], run.metrics["calibration"]
    logits = torch.log(torch.tensor(test.probs)) / temperature["temperature"]
    scores = torch.softmax(logits, dim=1)[:, 1].numpy()
    for threshold in thresholds:
        (_, alarms), (_, found) = confusion_matrix(test.labels, scores >= threshold)
        yield (found - alarms * threshold / (1 - threshold)) / len(scores)


def test_net_benefit_and_where_it_is_above_both(arms):
    axes = draw_decision_curves(arms).axes[0]
    named = {line.get_label(): line for line in axes.get_lines()}
    everyone, none = named["treat all"].get_ydata(), named["treat none"].get_ydata()
    share = arms[0].first.predictions["test"].labels.mean()
    at = named["treat all"].get_xdata()
    expected = share - (1 - share) * at / (1 - at)
    assert everyone == pytest.approx(expected, abs=1e-12)
    assert set(none) == {0}
    # Below zero: a thin strip and its dots, a thick one and its.
    strips = [line for line in axes.get_lines() if np.isnan(line.get_ydata()).any()]
    for arm, strip, thick in zip(arms, strips[::4], strips[2::4], strict=True):
        (name,) = [name for name in named if name.startswith(f"{arm.name}: above both")]
        model = named[name].get_ydata()
        expected = list(net_benefits(arm.first, at))
        assert model == pytest.approx(expected, abs=1e-12)
        above = model > np.maximum(everyone, 0)
        assert np.isfinite(strip.get_ydata()).tolist() == above.tolist()
        # Surely above both, by intervals of the differences on the same resamples.
        test, scaling = arm.first.predictions["test"], arm.first.metrics["calibration"]
        probs = read_scaling(scaling).apply(test)
        curve = decision_curve(test, probs=probs, resamples=RESAMPLES)
        surely = [
            # Where all are acted on, by every resample, there is no interval.
            all((one["ci_low"] or 0) > 0 for one in (model, over))
            for model, over in zip(curve["model"], curve["over_all"], strict=True)
        ]
        assert np.isfinite(thick.get_ydata()).tolist() == surely
        assert 0 < sum(surely) < sum(above)
        for i, over in enumerate(curve["over_all"]):
            assert over["value"] == pytest.approx(expected[i] - everyone[i], abs=1e-12)
        places = np.flatnonzero(above)
        assert f"{at[places[0]]:.2f}–" in name
        assert f"–{at[places[-1]]:.2f}" in name


def test_risk_of_all_images_is_the_share_of_errors(arms):
    axes = draw_risk_coverage(arms).axes[0]
    for arm, line in zip(arms, axes.get_lines(), strict=True):
        test = arm.first.predictions["test"]
        wrong = test.probs.argmax(axis=1) != test.labels
        sureness = test.probs.max(axis=1)
        risk = dict(zip(*line.get_data(), strict=True))
        assert risk[1.0] == pytest.approx(wrong.mean(), abs=1e-12)
        surest = np.argsort(-sureness)[: len(wrong) // 2]
        assert risk[0.5] == pytest.approx(wrong[surest].mean(), abs=1e-12)
