"""The whole of metrics.json: recomputed, and decided by validation alone."""

import csv
import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from jaxmed.errors import InputError
from jaxmed.evaluation import evaluate, read_predictions, reliability, write_predictions

TASKS = [("binary", 2), ("multiclass", 5), ("multilabel", 4), ("ordinal", 4)]
AVERAGES = ("macro", "micro", "weighted")


def splits(draw, task, classes, n=300, missing=False):
    # A softmax with all its digits: what a model gives.
    val = draw(task, n=n, classes=classes, split="val", seed=1, decimals=None)
    test = draw(task, n=n, classes=classes, split="test", seed=2, decimals=None)
    if missing:
        val, test = (
            replace(one, labels=np.where(one.probs % 0.1 < 0.03, -1, one.labels))
            for one in (val, test)
        )
    return val, test


def read_csv(path, classes, multilabel):
    """Reads predictions.csv with nothing of jaxmed: split -> labels, probabilities."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    result = {}
    for split in ("val", "test"):
        table = np.array([row[2:] for row in rows if row[0] == split])
        labels = np.where(table == "", "-1", table)[:, :-classes].astype(int)
        probs = table[:, -classes:].astype(float)
        result[split] = labels if multilabel else labels[:, 0], probs
    return result


def by_label(score, labels, predicted):
    """The score of every label, of the images whose label is known."""
    pairs = zip(labels.T, predicted.T, strict=True)
    return [score(t[t >= 0], p[t >= 0]) for t, p in pairs]


def overall(task, labels, probs):
    if task == "multilabel":
        decided = (probs >= 0.5).astype(int)
        known = labels >= 0
        scores = {
            "balanced_accuracy": by_label(sk.balanced_accuracy_score, labels, decided),
            "f1": by_label(sk.f1_score, labels, decided),
            "mcc": by_label(sk.matthews_corrcoef, labels, decided),
            "kappa": by_label(sk.cohen_kappa_score, labels, decided),
            "auroc": by_label(sk.roc_auc_score, labels, probs),
            "auprc": by_label(sk.average_precision_score, labels, probs),
        }
        return {name: np.mean(values) for name, values in scores.items()} | {
            "accuracy": sk.accuracy_score(labels[known], decided[known]),
            "log_loss": sk.log_loss(labels[known], probs[known]),
            "brier": sk.brier_score_loss(labels[known], probs[known]),
        }
    decided = probs.argmax(axis=1)
    binary = task == "binary"
    positive = probs[:, 1] if binary else probs
    return {
        "accuracy": sk.accuracy_score(labels, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, decided),
        "f1": sk.f1_score(labels, decided, average="binary" if binary else "macro"),
        "mcc": sk.matthews_corrcoef(labels, decided),
        "kappa": sk.cohen_kappa_score(labels, decided),
        "auroc": sk.roc_auc_score(labels, positive, multi_class="ovr"),
        "auprc": sk.average_precision_score(labels, positive),
        "log_loss": sk.log_loss(labels, probs),
        "brier": sk.brier_score_loss(labels, positive),
    } | (
        {"quadratic_kappa": sk.cohen_kappa_score(labels, decided, weights="quadratic")}
        if task == "ordinal"
        else {}
    )


def one_class(truth, decided, probs):
    return {
        "precision": sk.precision_score(truth, decided),
        "recall": sk.recall_score(truth, decided),
        "specificity": sk.recall_score(truth, decided, pos_label=0),
        "npv": sk.precision_score(truth, decided, pos_label=0),
        "f1": sk.f1_score(truth, decided),
        "auroc": sk.roc_auc_score(truth, probs),
        "auprc": sk.average_precision_score(truth, probs),
        "support": truth.sum(),
    }


def at_threshold(truth, decided):
    sensitivity = sk.recall_score(truth, decided)
    specificity = sk.recall_score(truth, decided, pos_label=0)
    positive, negative = sk.class_likelihood_ratios(truth, decided)
    return {
        "accuracy": sk.accuracy_score(truth, decided),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": sk.precision_score(truth, decided),
        "npv": sk.precision_score(truth, decided, pos_label=0),
        "lr_positive": positive,
        "lr_negative": negative,
        "f1": sk.f1_score(truth, decided),
        "mcc": sk.matthews_corrcoef(truth, decided),
        "kappa": sk.cohen_kappa_score(truth, decided),
        "youden_j": sensitivity + specificity - 1,
    }


def averaged(average, truth, decided, probs):
    """Averages of labels that are all known."""
    given = {"average": average}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, decided, **given
    )
    found = {"precision": precision, "recall": recall, "f1": f1}
    found["auroc"] = sk.roc_auc_score(truth, probs, **given)
    found["auprc"] = sk.average_precision_score(truth, probs, **given)
    return found


def youden(truth, probs):
    false_positives, sensitivity, thresholds = sk.roc_curve(truth, probs)
    return thresholds[np.argmax(sensitivity - false_positives)]


def recalibrated(labels, probs):
    logit = np.log(probs[:, 1:]) - np.log(probs[:, :1])
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    return fit.fit(logit, labels).coef_[0, 0]


def values(numbers):
    """Takes the values out of a dict of {"value", "ci_low", "ci_high"}."""
    return {
        name: number["value"] if isinstance(number, dict) else number
        for name, number in numbers.items()
        if name != "n"
    }


@pytest.mark.filterwarnings("ignore:The y_p.* values do not sum to one")
@pytest.mark.parametrize(
    ("task", "classes", "missing"),
    [(*task, False) for task in TASKS] + [("multilabel", 4, True)],
)
def test_every_number_can_be_recomputed(draw, tmp_path, task, classes, missing):
    val, test = splits(draw, task, classes, missing=missing)
    result = json.loads(json.dumps(evaluate(val, test, resamples=20), allow_nan=False))
    write_predictions(tmp_path / "predictions.csv", [val, test])
    read = read_csv(tmp_path / "predictions.csv", classes, task == "multilabel")
    close = {"rel": 0, "abs": 1e-9}
    truths = {}
    for split, (labels, probs) in read.items():
        expected = overall(task, labels, probs)
        assert values(result[split]) == pytest.approx(expected, **close)
        assert result[split]["n"] == 300
        if task == "multilabel":
            truth, decided = labels, probs >= 0.5
            assert result["confusion_matrix"][split] is None
        else:
            best = probs.argmax(axis=1)
            truth, decided = np.eye(classes)[labels], np.eye(classes)[best]
            table = sk.confusion_matrix(labels, best).tolist()
            assert result["confusion_matrix"][split] == table
        for i, name in enumerate(val.class_names):
            known = truth[:, i] >= 0
            columns = (part[known, i] for part in (truth, decided, probs))
            expected = one_class(*columns)
            found = result["per_class"][split][name]
            assert values(found) == pytest.approx(expected, **close)
            if task == "multilabel":
                assert found["n"] == known.sum()
        for average in () if task == "binary" or missing else AVERAGES:
            found = values(result["averages"][split][average])
            expected = averaged(average, truth, decided, probs)
            found = {name: found[name] for name in expected}
            assert found == pytest.approx(expected, **close)
        truths[split] = truth
    assert missing == any((truth < 0).any() for truth in truths.values())

    (_, val_probs), (test_labels, test_probs) = read["val"], read["test"]
    assert result["threshold"]["method"] == "youden"
    assert result["threshold"]["chosen_on"] == "val"
    chosen, applied = result["threshold"]["value"], result["test_at_threshold"]
    if task == "binary":
        assert result["positive_class"] == "class 1"
        chosen, applied = {"class 1": chosen}, {"class 1": applied}
    else:
        assert "positive_class" not in result
        assert list(chosen) == list(val.class_names)
    for name, threshold in chosen.items():
        i = val.class_names.index(name)
        known = truths["val"][:, i] >= 0
        assert threshold == youden(truths["val"][known, i], val_probs[known, i])
        known = truths["test"][:, i] >= 0
        decided = test_probs[known, i] >= threshold
        expected = at_threshold(truths["test"][known, i], decided)
        assert values(applied[name]) == pytest.approx(expected, **close)

    calibration = result["calibration"]
    assert calibration["chosen_on"] == "val"
    temperature = calibration["temperature"]
    if task == "multilabel":
        cold = expit((np.log(test_probs) - np.log1p(-test_probs)) / temperature)
    else:
        cold = softmax(np.log(test_probs) / temperature, axis=1)
    for name in ("brier", "log_loss"):
        expected = overall(task, test_labels, cold)[name]
        found = calibration["test"][f"{name}_calibrated"]["value"]
        assert found == pytest.approx(expected, **close)
        assert calibration["test"][name] == result["test"][name]
    before = calibration["test"]["log_loss"]["value"]
    assert calibration["test"]["log_loss_calibrated"]["value"] < before
    if task == "binary":
        slope = recalibrated(test_labels, test_probs)
        assert calibration["test"]["slope"]["value"] == pytest.approx(slope, **close)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_the_file_gives_the_same_metrics_to_the_bit(draw, tmp_path, task, classes):
    val, test = splits(draw, task, classes)
    path = tmp_path / "predictions.csv"
    write_predictions(path, [val, test])
    read = read_predictions(path, class_names=val.class_names, task=task)
    a = evaluate(val, test, resamples=50, seed=4)
    b = evaluate(read["val"], read["test"], resamples=50, seed=4)
    assert a == b
    assert a["intervals"]["resamples"] == 50
    assert a["intervals"]["seed"] == 4
    assert evaluate(val, test, resamples=50, seed=5) != a


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_the_test_split_decides_nothing(draw, task, classes):
    val, test = splits(draw, task, classes)
    order = np.random.default_rng(0).permutation(len(test.ids))
    shuffled = replace(test, labels=test.labels[order])
    a, b = (evaluate(val, t, resamples=10) for t in (test, shuffled))
    assert a["test"] != b["test"]
    assert a["threshold"] == b["threshold"]
    assert a["calibration"]["temperature"] == b["calibration"]["temperature"]
    assert a["val"] == b["val"]


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return type(value) in (int, float, str, type(None))


def shape(number):
    return set(number) - {"method", "note"}


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_all_is_plain_python_and_every_interval_holds_its_order(draw, task, classes):
    val, test = splits(draw, task, classes)
    result = evaluate(val, test, resamples=200)
    assert plain(result)
    numbers = [result["val"], result["test"], *result["per_class"]["test"].values()]
    for number in (n for group in numbers for n in group.values()):
        if isinstance(number, dict):
            assert shape(number) == {"value", "ci_low", "ci_high"}
            assert number["ci_low"] <= number["value"] <= number["ci_high"]
            assert number["ci_low"] < number["ci_high"]


@pytest.mark.parametrize("n", [1, 5])
def test_one_class_only_is_null_with_the_reason(draw, n):
    val = draw("binary", n=10, classes=2, split="val")
    ones = {"labels": np.zeros(n, int), "probs": np.tile([0.75, 0.25], (n, 1))}
    names = tuple(map(str, range(n)))
    val, test = (
        replace(draw("binary", n=10, classes=2, split=split), ids=names, **ones)
        for split in ("val", "test")
    )
    result = evaluate(val, test, resamples=10)
    json.dumps(result, allow_nan=False)
    null = {"value": None, "ci_low": None, "ci_high": None, "reason": "one class only"}
    assert result["test"]["auroc"] == result["test"]["balanced_accuracy"] == null
    assert result["test"]["accuracy"]["value"] == 1
    assert result["threshold"]["value"] is None
    assert result["threshold"]["reason"] == "no image of this class"
    assert result["test_at_threshold"]["f1"]["value"] is None
    assert result["calibration"]["temperature"] is None
    assert result["calibration"]["test"]["ece"]["plug_in"] == 0.25
    assert result["calibration"]["test"]["slope"]["reason"] == "one class only"
    assert result["calibration"]["test"]["ece_calibrated"]["value"] is None
    assert result["per_class"]["test"]["class 1"]["support"] == 0


def test_a_class_without_test_images(draw):
    val, test = splits(draw, "multiclass", 3)
    keep = test.labels != 2
    test = replace(
        test,
        ids=tuple(np.array(test.ids)[keep]),
        labels=test.labels[keep],
        probs=test.probs[keep],
    )
    result = evaluate(val, test, resamples=10)
    assert result["test"]["auroc"]["reason"] == "no image of this class: 'class 2'"
    assert result["per_class"]["test"]["class 0"]["auroc"]["value"] > 0.5
    absent = result["per_class"]["test"]["class 2"]
    assert absent["recall"]["reason"] == "no image of this class"
    assert absent["precision"]["value"] == 0
    assert result["test_at_threshold"]["class 2"]["specificity"]["value"] > 0.5
    # scikit-learn: the mean over the classes that occur.
    recalls = [result["per_class"]["test"][f"class {i}"]["recall"] for i in (0, 1)]
    expected = np.mean([recall["value"] for recall in recalls])
    assert result["test"]["balanced_accuracy"]["value"] == pytest.approx(expected)


def test_a_single_label_that_may_be_absent(draw):
    val, test = splits(draw, "multilabel", 1)
    result = evaluate(val, test, resamples=10)
    decided = test.probs[:, 0] >= 0.5
    expected = sk.precision_score(test.labels[:, 0], decided)
    assert result["per_class"]["test"]["class 0"]["precision"]["value"] == expected
    auroc = sk.roc_auc_score(test.labels[:, 0], test.probs[:, 0])
    assert result["test"]["auroc"]["value"] == auroc


def test_refused(draw):
    val, test = splits(draw, "multiclass", 3)
    with pytest.raises(InputError, match="val predictions are of the split 'test'"):
        evaluate(test, val)
    with pytest.raises(InputError, match="differ in class_names"):
        evaluate(val, splits(draw, "multiclass", 4)[1])
    with pytest.raises(InputError, match="differ in task"):
        evaluate(val, splits(draw, "ordinal", 3)[1])
    with pytest.raises(InputError, match="resamples must be at least 1"):
        evaluate(val, test, resamples=0)


@pytest.mark.parametrize(
    ("task", "classes", "method"),
    [("binary", 2, "platt"), ("multilabel", 3, "platt"), ("multiclass", 3, "vector")],
)
def test_a_scaling_can_be_recomputed_and_is_of_val_alone(draw, task, classes, method):
    val, test = splits(draw, task, classes)
    result = evaluate(val, test, resamples=10, calibration=method)["calibration"]
    assert (result["method"], result["chosen_on"]) == (method, "val")
    scale, bias = np.array(result["scale"]), np.array(result["bias"])
    logits = np.log(test.probs)
    if task == "multilabel":
        scaled = expit(scale * (logits - np.log1p(-test.probs)) + bias)
    elif task == "binary":
        positive = expit(scale * (logits[:, 1] - logits[:, 0]) + bias)
        scaled = np.stack([1 - positive, positive], axis=1)
    else:
        scaled = softmax(scale * logits + bias, axis=1)
    expected = overall(task, test.labels, scaled)
    for name in ("brier", "log_loss"):
        found = result["test"][f"{name}_calibrated"]["value"]
        assert found == pytest.approx(expected[name], rel=0, abs=1e-9)
    assert result["reliability"]["before"] == reliability(test)
    after = reliability(test, scaled)
    for one, expected in zip(result["reliability"]["after"], after, strict=True):
        assert one["observed"] == expected["observed"]
        assert one["predicted"] == pytest.approx(expected["predicted"], abs=1e-12)
    worse = replace(test, labels=np.roll(test.labels, 1, axis=0))
    again = evaluate(val, worse, resamples=10, calibration=method)["calibration"]
    assert (again["scale"], again["bias"]) == (result["scale"], result["bias"])


def test_predictive_values_at_a_prevalence(draw):
    val, test = splits(draw, "binary", 2)
    result = evaluate(val, test, resamples=50, prevalence=0.02)["test_at_threshold"]
    sensitivity = result["sensitivity"]["value"]
    specificity = result["specificity"]["value"]
    # Of 100 people 2 are ill.
    found, alarms = 2 * sensitivity, 98 * (1 - specificity)
    ppv, npv = result["ppv_at_prevalence"], result["npv_at_prevalence"]
    assert ppv["value"] == pytest.approx(found / (found + alarms))
    cleared, missed = 98 * specificity, 2 * (1 - sensitivity)
    assert npv["value"] == pytest.approx(cleared / (cleared + missed))
    assert ppv["ci_low"] < ppv["value"] < ppv["ci_high"]
    assert ppv["value"] < result["ppv"]["value"]
    plain = evaluate(val, test, resamples=5)["test_at_threshold"]
    assert "ppv_at_prevalence" not in plain


def test_what_covers_is_what_stands_in_the_first_place(draw):
    val, test = splits(draw, "binary", 2)
    result = evaluate(val, test, resamples=50)
    hits = round(result["test"]["accuracy"]["value"] * 300)
    wilson = binomtest(hits, 300).proportion_ci(method="wilson")
    found = result["test"]["accuracy"]
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(wilson)
    methods = {name: one.get("method") for name, one in estimates(result["test"])}
    assert methods == {
        "auroc": "logit_delong",
        "auprc": "logit",
        "accuracy": "wilson",
        "balanced_accuracy": "mover",
        "f1": "wilson",
        "mcc": None,
        "kappa": None,
        "log_loss": "log",
        "brier": "log",
    }
    assert result["intervals"]["independent"] == "images"
    groups = tuple(str(i // 2) for i in range(300))
    grouped = evaluate(val, replace(test, groups=groups), resamples=10)
    assert grouped["test"]["groups"] == 150
    assert grouped["intervals"]["independent"] == "patients"
    assert "groups of images" in grouped["intervals"]["method"]
    assert grouped["test"]["accuracy"]["method"] == "wilson_clustered"


def estimates(numbers):
    return ((name, one) for name, one in numbers.items() if isinstance(one, dict))


def test_few_positives_are_said_and_never_certain(draw):
    val, test = splits(draw, "binary", 2)
    positives = np.flatnonzero(test.labels)[:3]
    test = test.take(np.union1d(positives, np.flatnonzero(test.labels == 0)))
    # A perfect score.
    probs = np.where(test.truth, 0.9, 0.1)
    result = evaluate(val, replace(test, probs=probs), resamples=50, threshold="0.5")
    numbers = [result["test"], result["test_at_threshold"]]
    for name, one in (pair for group in numbers for pair in estimates(group)):
        assert one["ci_low"] is None or one["ci_low"] < one["ci_high"], name
    assert result["test_at_threshold"]["sensitivity"]["ci_low"] < 0.5
    assert result["test"]["auroc"]["ci_low"] < 0.8
    assert "fewer than 30 images of 'class 1'" in result["test"]["auprc"]["note"]
    reason = "fewer than 5 images that are not of 'class 0'"
    for name in ("mcc", "kappa", "log_loss", "brier"):
        assert result["test"][name]["ci_low"] is None
        assert result["test"][name]["reason"] == reason


def test_a_rare_class_leaves_no_interval_of_a_mean_over_classes(draw):
    val, test = splits(draw, "multiclass", 4)
    rare = np.flatnonzero(test.labels == 3)[3:]
    test = test.take(np.setdiff1d(np.arange(300), rare))
    result = evaluate(val, test, resamples=50)
    reason = "fewer than 5 images of 'class 3'"
    assert result["test"]["f1"]["reason"] == reason
    assert result["averages"]["test"]["macro"]["specificity"]["ci_low"] is None
    # What is by formula covers also then, and what is of all images.
    for name in ("auroc", "auprc", "balanced_accuracy", "mcc", "accuracy"):
        assert result["test"][name]["ci_low"] < result["test"][name]["ci_high"]
    assert result["averages"]["test"]["weighted"]["f1"]["ci_low"] is not None


def test_speed_and_memory(draw):
    """2,000 resamples of 10,000 predictions and 8 classes: seconds, little memory."""
    val = draw(n=1000, classes=8, decimals=None, split="val")
    test = draw(n=10_000, classes=8, decimals=None)
    # It is one thread; its own time does not depend on what else the machine does.
    started = time.process_time()
    evaluate(val, test, resamples=2000)
    assert time.process_time() - started < 10
    tracemalloc.start()
    evaluate(val, test, resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
