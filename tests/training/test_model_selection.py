"""The choice of the best epoch against scikit-learn, and when a phase is over."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions
from jaxmed.strategies import Group, Optimizer, Phase, Schedule, Strategy
from jaxmed.training.fit import fit
from jaxmed.training.model_selection import (
    SELECTORS,
    best_row,
    is_over,
    plateau_factor,
    validation_scores,
)

GROUP = Group(name="head", patterns=("head",), optimizer=Optimizer(learning_rate=0.01))


def phase(epochs=5, **settings):
    return Phase(name="head", epochs=epochs, groups=(GROUP,), **settings)


def rows_of(column, values, *, start=1, name="head"):
    return [
        {"phase": name, "epoch": start + i, column: value}
        for i, value in enumerate(values)
    ]


def draw(task, count=40, classes=4, labels=None):
    """Predictions of a model that is often right."""
    rng = np.random.default_rng(0)
    classes = 2 if task == "binary" else classes
    if labels is None:
        shape = (count, classes) if task == "multilabel" else count
        labels = rng.integers(0, 2 if task == "multilabel" else classes, shape)
    member = labels if task == "multilabel" else np.eye(classes)[labels]
    scores = 1.5 * member + rng.normal(size=(count, classes)) - 0.7
    probs = 1 / (1 + np.exp(-scores))
    if task != "multilabel":
        probs = probs / probs.sum(axis=1, keepdims=True)
    return Predictions(
        split="val",
        ids=tuple(map(str, range(count))),
        labels=labels,
        probs=probs,
        class_names=tuple("abcd"[:classes]),
        task=task,
    )


def over_labels(score, predictions):
    """The mean over the labels of a metric of yes and no."""
    decided = predictions.probs >= 0.5
    pairs = zip(predictions.labels.T, decided.T, strict=True)
    return np.mean([score(*pair) for pair in pairs])


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_scores_are_scikit_learns(task):
    predictions = draw(task)
    labels, probs = predictions.labels, predictions.probs
    classes = range(probs.shape[1])
    one_hot = labels if task == "multilabel" else np.eye(len(classes))[labels]
    auprc = [
        metrics.average_precision_score(one_hot[:, c], probs[:, c]) for c in classes
    ]
    if task == "multilabel":
        auroc = metrics.roc_auc_score(labels, probs)
        expected = {
            "val_balanced_accuracy": over_labels(
                metrics.balanced_accuracy_score, predictions
            ),
            "val_f1": over_labels(metrics.f1_score, predictions),
            "val_mcc": over_labels(metrics.matthews_corrcoef, predictions),
        }
    else:
        if task == "binary":
            auroc = metrics.roc_auc_score(labels, probs[:, 1])
        else:
            auroc = metrics.roc_auc_score(labels, probs, multi_class="ovr")
        decided = probs.argmax(axis=1)
        expected = {
            "val_balanced_accuracy": metrics.balanced_accuracy_score(labels, decided),
            "val_f1": metrics.f1_score(labels, decided, average="macro"),
            "val_mcc": metrics.matthews_corrcoef(labels, decided),
        }
    expected["val_auprc"] = auprc[1] if task == "binary" else np.mean(auprc)
    for select, value in expected.items():
        scores = validation_scores(predictions, select)
        assert scores == pytest.approx({"val_auroc": auroc, select: value}, abs=1e-12)
        assert 0.1 < value < 0.99
    for select in ("val_auroc", "val_loss", "val_accuracy"):
        assert list(validation_scores(predictions, select)) == ["val_auroc"]


def test_a_single_label_has_the_scores_of_yes_and_no():
    predictions = draw("multilabel", classes=1)
    labels, decided = predictions.labels[:, 0], predictions.probs[:, 0] >= 0.5
    for select, score in (
        ("val_f1", metrics.f1_score),
        ("val_mcc", metrics.matthews_corrcoef),
        ("val_balanced_accuracy", metrics.balanced_accuracy_score),
    ):
        value = validation_scores(predictions, select)[select]
        assert value == pytest.approx(score(labels, decided), abs=1e-12)


def with_missing(share=0.4):
    """Predictions of which some labels are not known, and the columns that are."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (40, 4))
    labels[rng.random(labels.shape) < share] = MISSING
    predictions = draw("multilabel", labels=labels)
    columns = zip(labels.T, predictions.probs.T, strict=True)
    return predictions, [(y[y >= 0], p[y >= 0]) for y, p in columns]


def test_scores_leave_out_what_is_not_known():
    predictions, columns = with_missing()
    for select, score in (
        ("val_auprc", metrics.average_precision_score),
        ("val_f1", lambda y, p: metrics.f1_score(y, p >= 0.5)),
        ("val_mcc", lambda y, p: metrics.matthews_corrcoef(y, p >= 0.5)),
    ):
        value = validation_scores(predictions, select)[select]
        expected = np.mean([score(*column) for column in columns])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("select", ["val_auprc", "val_f1", "val_mcc"])
def test_of_a_label_that_is_known_of_no_image_no_score_is_defined(select):
    predictions, _ = with_missing()
    predictions.labels[:, 1] = MISSING
    assert validation_scores(predictions, select)[select] is None


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [
        # No image of class d.
        (np.arange(40) % 3, {"val_auroc", "val_auprc"}),
        (
            np.zeros(40, int),
            {"val_auroc", "val_auprc", "val_balanced_accuracy", "val_mcc"},
        ),
    ],
    ids=["a_class_is_missing", "one_class"],
)
def test_a_score_that_the_split_does_not_define_is_none(labels, undefined):
    predictions = draw("multiclass", labels=labels)
    found = {
        select
        for select in SELECTORS
        if select not in ("val_loss", "val_accuracy")
        and validation_scores(predictions, select)[select] is None
    }
    assert found == undefined


def test_of_labels_without_positives_only_f1_is_defined():
    labels = np.random.default_rng(0).integers(0, 2, (40, 4))
    labels[:, 2] = 0
    predictions = draw("multilabel", labels=labels)
    for select in ("val_auprc", "val_balanced_accuracy", "val_mcc"):
        assert validation_scores(predictions, select)[select] is None
    assert validation_scores(predictions, "val_f1")["val_f1"] > 0


@pytest.mark.parametrize(
    ("select", "values", "best"),
    [
        ("val_auroc", [0.5, 0.9, 0.7, 0.9], 2),
        ("val_mcc", [-0.5, -0.1, -0.1], 2),
        ("val_loss", [0.5, 0.9, 0.2, 0.2], 3),
    ],
)
def test_the_best_epoch_is_the_earliest_of_equals(select, values, best):
    assert best_row(rows_of(select, values), select)["epoch"] == best


@pytest.mark.parametrize(
    ("select", "better", "worse"), [("val_auroc", 0.9, 0.6), ("val_loss", 0.2, 0.4)]
)
def test_patience_counts_epochs_that_did_not_improve(select, better, worse):
    patient = phase(10, patience=2)
    for values, over in (
        ([], False),
        ([worse], False),
        ([better, worse], False),
        ([better, worse, worse], True),
        # An equal is no improvement.
        ([better, better, better], True),
        ([worse, worse, better], False),
        ([worse, better, worse, worse], True),
    ):
        # The epochs of earlier phases count for nothing.
        rows = rows_of(select, values, start=8)
        assert is_over(patient, rows, select) == over, values
    assert not is_over(phase(10), rows_of(select, [better] + 8 * [worse]), select)
    assert is_over(phase(3), rows_of(select, [worse, worse, better]), select)


def test_a_plateau_is_of_the_phases_own_watched_column():
    lowered = phase(schedule=Schedule(name="plateau", patience=1, gamma=0.5))
    assert plateau_factor(lowered, []) == 1
    assert plateau_factor(lowered, rows_of("val_loss", [1.0, 2.0])) == 1
    assert plateau_factor(lowered, rows_of("val_loss", [1.0, 2.0, 3.0])) == 0.5
    watching = Schedule(name="plateau", patience=1, gamma=0.5, watch="train_accuracy")
    rising = rows_of("train_accuracy", [0.1, 0.2, 0.3])
    assert plateau_factor(phase(schedule=watching), rising) == 1
    assert plateau_factor(phase(), rows_of("val_loss", [1.0, 2.0, 3.0])) == 1


@pytest.mark.parametrize("select", SELECTORS)
def test_every_selector_chooses(new_tiny, quarters, select):
    model = new_tiny()
    strategy = Strategy(name="head", phases=(phase(3),))
    result = fit(model, quarters, strategy, batch_size=16, select=select)
    values = [row[select] for row in result.history]
    choose = min if select == "val_loss" else max
    assert result.best["metric"] == select
    assert result.best["value"] == choose(values)
    assert result.best["epoch"] == 1 + values.index(choose(values))
    others = {"val_loss", "val_accuracy", "val_auroc", select}
    columns = {column for column in result.history[0] if column.startswith("val_")}
    assert columns == others


@pytest.mark.parametrize(
    ("select", "watch", "column"),
    [
        ("val_auroc", "val_loss", "val_auroc"),
        ("val_auprc", "val_loss", "val_auprc"),
        ("val_loss", "val_auroc", "val_auroc"),
    ],
)
def test_an_undefined_metric_is_refused_in_a_sentence(
    new_tiny, quarters, select, watch, column
):
    lacking = dataclasses.replace(quarters.val, labels=quarters.val.labels // 2)
    data = dataclasses.replace(quarters, val=lacking)
    watching = phase(schedule=Schedule(name="plateau", watch=watch))
    strategy = Strategy(name="head", phases=(watching,))
    with pytest.raises(InputError, match=f"{column}, which .* is not defined on the"):
        fit(new_tiny(), data, strategy, batch_size=16, select=select)
