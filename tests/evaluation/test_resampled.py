"""The vectorised metrics of resamples against scikit-learn on each resample."""

import numpy as np
import pytest
from sklearn import metrics as sk

from jaxmed.evaluation.calibration import CalibrationError
from jaxmed.evaluation.intervals import Bootstrap, strata_of
from jaxmed.evaluation.losses import Losses
from jaxmed.evaluation.metrics import Decisions
from jaxmed.evaluation.ranking import Ranking, RankSum
from jaxmed.evaluation.thresholds import ThresholdDecisions

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4)]
SKLEARN_WARNINGS = [
    "ignore:The y_p.* values do not sum to one",
    "ignore:y_pred contains classes not in y_true",
]
pytestmark = [pytest.mark.filterwarnings(text) for text in SKLEARN_WARNINGS]


def class_scores(truth, decided):
    nan = np.nan
    return {
        "precision": sk.precision_score(truth, decided, zero_division=nan),
        "recall": sk.recall_score(truth, decided, zero_division=nan),
        "f1": sk.f1_score(truth, decided, zero_division=nan),
    }


def by_scikit_learn(predictions, rows):
    """Every metric of the drawn images, as one would write it with scikit-learn."""
    labels, probs = predictions.labels[rows], predictions.probs[rows]
    truth, names = predictions.truth[rows], predictions.class_names
    multilabel, binary = (predictions.task == t for t in ("multilabel", "binary"))
    k = len(names)
    decided = probs >= 0.5 if multilabel else np.eye(k)[probs.argmax(axis=1)] == 1
    expected = {}
    for i, name in enumerate(names):
        scores = class_scores(truth[:, i], decided[:, i])
        scores["auroc"] = sk.roc_auc_score(truth[:, i], probs[:, i])
        expected |= {("per_class", name, key): s for key, s in scores.items()}
    if multilabel:
        pairs = list(zip(truth.T, decided.T, probs.T, strict=True))
        mean = {
            "accuracy": [sk.accuracy_score(t, d) for t, d, _ in pairs],
            "balanced_accuracy": [
                sk.balanced_accuracy_score(t, d) for t, d, _ in pairs
            ],
            "auroc": [sk.roc_auc_score(t, p) for t, _, p in pairs],
            "log_loss": [sk.log_loss(t, p) for t, _, p in pairs],
            "brier": [sk.brier_score_loss(t, p) for t, _, p in pairs],
        }
        return expected | {(key,): np.mean(scores) for key, scores in mean.items()}
    chosen, classes = probs.argmax(axis=1), list(range(k))
    positive = probs[:, 1] if binary else probs
    return expected | {
        ("accuracy",): sk.accuracy_score(labels, chosen),
        ("balanced_accuracy",): sk.balanced_accuracy_score(labels, chosen),
        ("auroc",): sk.roc_auc_score(
            labels, positive, multi_class="ovr", labels=None if binary else classes
        ),
        ("log_loss",): sk.log_loss(labels, probs, labels=classes),
        ("brier",): sk.brier_score_loss(labels, positive, labels=classes),
    }


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_metrics_of_resamples(draw, task, classes):
    predictions = draw(task, n=120, classes=classes)
    measures = [Decisions(predictions), Losses(predictions), Ranking(predictions)]
    (counts,) = Bootstrap(resamples=20).counts(strata_of(predictions.labels))
    samples = {}
    for measure in measures:
        samples |= measure.resampled(counts)
        assert measure.resampled(counts).keys() == measure.values().keys()
    for column in range(20):
        rows = np.repeat(np.arange(120), counts[:, column].astype(int))
        expected = by_scikit_learn(predictions, rows)
        assert expected.keys() == samples.keys()
        got = {key: sample[column] for key, sample in samples.items()}
        assert got == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_values_of_the_split_itself(draw, task, classes):
    predictions = draw(task, n=120, classes=classes, decimals=None)
    expected = by_scikit_learn(predictions, np.arange(120))
    values = {}
    for measure in (Decisions, Losses, Ranking):
        values |= measure(predictions).values()
    assert values == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_threshold_metrics_of_resamples(draw, task, classes):
    predictions = draw(task, n=120, classes=classes)
    names = predictions.class_names[1:] if task == "binary" else predictions.class_names
    thresholds = {name: 0.1 + 0.2 * i for i, name in enumerate(names)}
    measure = ThresholdDecisions(predictions, thresholds)
    (counts,) = Bootstrap(resamples=20).counts(strata_of(predictions.labels))
    samples = measure.resampled(counts)
    assert samples.keys() == measure.values().keys()
    for column in range(20):
        rows = np.repeat(np.arange(120), counts[:, column].astype(int))
        for name, threshold in thresholds.items():
            i = predictions.class_names.index(name)
            truth = predictions.truth[rows, i]
            decided = predictions.probs[rows, i] >= threshold
            table = sk.confusion_matrix(truth, decided)
            expected = class_scores(truth, decided)
            sensitivity = expected.pop("recall")
            specificity = table[0, 0] / table[0].sum()
            expected |= {
                "accuracy": sk.accuracy_score(truth, decided),
                "sensitivity": sensitivity,
                "specificity": specificity,
                "youden_j": sensitivity + specificity - 1,
            }
            prefix = ("at_threshold",) if task == "binary" else ("at_threshold", name)
            got = {key: samples[(*prefix, key)][column] for key in expected}
            assert got == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_calibration_error_of_resamples_is_that_of_the_drawn_images(
    draw, task, classes
):
    predictions = draw(task, n=120, classes=classes, decimals=None)
    (counts,) = Bootstrap(resamples=5).counts(strata_of(predictions.labels))
    samples = CalibrationError(predictions).resampled(counts)[("ece",)]
    for column in range(5):
        rows = np.repeat(np.arange(120), counts[:, column].astype(int))
        drawn = type(predictions)(
            split="test",
            ids=tuple(map(str, range(120))),
            labels=predictions.labels[rows],
            probs=predictions.probs[rows],
            class_names=predictions.class_names,
            task=task,
        )
        value = CalibrationError(drawn).values()[("ece",)]
        assert samples[column] == pytest.approx(value, rel=0, abs=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_auroc_with_weights_and_ties(share, levels):
    random = np.random.default_rng(levels)
    truth = random.random(300) < share
    scores = random.integers(0, levels, 300) / levels
    counts = random.integers(0, 4, (300, 10)).astype(float)
    result = RankSum(truth, scores)(counts)
    for column in range(10):
        expected = sk.roc_auc_score(truth, scores, sample_weight=counts[:, column])
        assert result[column] == pytest.approx(expected, rel=0, abs=1e-12)


def test_auroc_of_a_resample_with_one_class_is_nan():
    truth, scores = np.array([True, False, False]), np.array([0.3, 0.2, 0.9])
    counts = np.array([[0, 1], [1, 1], [2, 1.0]])
    result = RankSum(truth, scores)(counts)
    assert np.isnan(result[0])
    assert result[1] == 0.5
    assert np.isnan(RankSum(np.ones(3, bool), scores)(counts)).all()
