"""Tests of the curves that the ROC figures draw, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from jaxmed.evaluation.predictions import Predictions
from jaxmed.report.figures.discrimination import class_curve, macro_curve
from jaxmed.runs.record import read_run


def test_curves_have_the_areas_that_metrics_json_states(multiclass_folder):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    test, per_class = run.predictions["test"], run.metrics["per_class"]["test"]
    curves = []
    for index, name in enumerate(run.class_names):
        curve = class_curve(test, index)
        assert curve is not None
        stated = per_class[name]["auroc"]["value"]
        assert auc(*curve) == pytest.approx(stated, abs=1e-9)
        curves.append(curve)
    macro = macro_curve(curves)
    expected = roc_auc_score(test.labels, test.probs, multi_class="ovr")
    assert auc(*macro) == pytest.approx(expected, abs=1e-9)
    assert np.all(np.diff(macro[1]) >= 0)
    assert (macro[0][0], macro[1][0], macro[0][-1], macro[1][-1]) == (0, 0, 1, 1)


def test_a_curve_leaves_out_what_is_not_known():
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(-1, 2, (40, 2)), rng.random((40, 2))
    predictions = Predictions(
        split="test",
        ids=tuple(map(str, range(40))),
        labels=labels,
        probs=probs,
        class_names=("a", "b"),
        task="multilabel",
    )
    for index in range(2):
        known = labels[:, index] != -1
        curve = class_curve(predictions, index)
        assert curve is not None
        expected = roc_auc_score(labels[known, index], probs[known, index])
        assert auc(*curve) == pytest.approx(expected, abs=1e-12)


def test_a_class_that_the_split_lacks_has_no_curve(multiclass_folder):
    run = read_run(multiclass_folder / "frozen" / "seed-3")
    test = run.predictions["test"]
    test.labels[:] = 0
    assert class_curve(test, 0) is None
    assert class_curve(test, 1) is None
