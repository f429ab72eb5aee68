"""What evaluation does with predictions that are odd, or hardly any.

Those that are refused as they are built are in test_predictions.py.
"""

import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation import (
    Predictions,
    evaluate,
    read_predictions,
    write_predictions,
)
from jaxmed.evaluation.predictions import fingerprint_of

TASKS = [("binary", 2), ("multiclass", 3), ("multilabel", 3), ("ordinal", 3)]


def is_complete(result):
    """Every number has a value, or a reason for having none; and JSON can hold it."""
    json.dumps(result, allow_nan=False)

    def check(branch):
        if isinstance(branch, list):
            return all(map(check, branch))
        if not isinstance(branch, dict):
            return True
        ends = [branch.get("ci_low"), branch.get("ci_high")]
        if "value" in branch and (branch["value"] is None or None in ends):
            fixed = branch.get("method") == "0.5"
            return fixed or bool(branch.get("reason"))
        return all(map(check, branch.values()))

    return check(result)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_one_or_two_images(draw, task, classes, n):
    val = draw(task, n=50, classes=classes, split="val")
    test = draw(task, n=50, classes=classes).take(np.arange(n))
    assert is_complete(evaluate(val, test, resamples=10))
    few = draw(task, n=50, classes=classes, split="val").take(np.arange(n))
    assert is_complete(evaluate(few, test, resamples=10))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_one_class(draw, task, classes, label):
    splits = [
        draw(task, n=20, classes=classes, split=split) for split in ("val", "test")
    ]
    alike = [replace(one, labels=np.full_like(one.labels, label)) for one in splits]
    for val in (splits[0], alike[0]):
        for threshold in ("youden", "0.5"):
            result = evaluate(val, alike[1], resamples=10, threshold=threshold)
            assert is_complete(result)
            assert result["test"]["auroc"]["value"] is None
            assert result["test"]["mcc"]["value"] is None


@pytest.mark.parametrize("certain", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_predictions_that_are_all_alike(draw, task, classes, certain):
    def alike(split):
        predictions = draw(task, n=20, classes=classes, split=split)
        probs = np.full((20, classes), certain)
        if task != "multilabel":
            probs[:, 0] = 1 - certain
            probs[:, 2:] = 0
        return replace(predictions, probs=probs)

    result = evaluate(alike("val"), alike("test"), resamples=10)
    assert is_complete(result)
    assert result["test"]["auroc"]["value"] == 0.5
    assert result["test"]["mcc"]["value"] is None


def test_a_label_that_is_never_known(draw):
    val, test = (
        draw("multilabel", n=40, classes=3, split=split) for split in ("val", "test")
    )
    unknown = [one.labels.copy() for one in (val, test)]
    for labels in unknown:
        labels[:, 1] = -1
    val, test = (
        replace(one, labels=labels)
        for one, labels in zip((val, test), unknown, strict=True)
    )
    for calibration in ("temperature", "platt"):
        result = evaluate(val, test, resamples=10, calibration=calibration)
        assert is_complete(result)
    reason = "no image of this class: 'class 1'"
    assert result["test"]["auroc"]["reason"] == reason
    assert result["per_class"]["test"]["class 1"]["n"] == 0
    assert result["threshold"]["value"]["class 1"] is None
    nothing = [replace(one, labels=one.labels * 0 - 1) for one in (val, test)]
    assert is_complete(evaluate(*nothing, resamples=10))


def test_classes_of_test_that_val_has_not_seen(draw):
    val = draw(n=60, classes=4, split="val")
    val = val.take(np.flatnonzero(val.labels != 3))
    result = evaluate(val, draw(n=60, classes=4), resamples=10)
    assert is_complete(result)
    assert result["threshold"]["value"]["class 3"] is None
    assert result["threshold"]["reason"] == {"class 3": "no image of this class"}
    reason = result["test_at_threshold"]["class 3"]["f1"]["reason"]
    assert reason == "no threshold, as in val: no image of this class"


def of_many_classes(k, n=20):
    random = np.random.default_rng(0)
    labels = random.integers(0, k, n)
    probs = random.random((n, k))
    probs[np.arange(n), labels] += 1
    probs /= probs.sum(axis=1, keepdims=True)
    val = Predictions(
        split="val",
        ids=tuple(map(str, range(n))),
        labels=labels,
        probs=probs,
        class_names=tuple(map(str, range(k))),
        task="multiclass",
    )
    return val, replace(val, split="test")


def test_ten_thousand_classes_do_not_take_minutes():
    val, test = of_many_classes(10_000)
    started = time.process_time()
    result = evaluate(val, test, resamples=50)
    assert time.process_time() - started < 60
    assert is_complete(result)
    assert result["test"]["accuracy"]["value"] == 1
    assert result["test"]["log_loss"]["ci_low"] is not None
    some = result["per_class"]["test"][str(test.labels[0])]
    assert some["auroc"]["value"] == 1
    assert some["auroc"]["reason"] == "no interval with more than 200 classes"
    assert result["confusion_matrix"]["test"] is None


def test_many_classes_do_not_take_gigabytes():
    """Samples of every class would be 500 classes * 2,000 * 20 * 8 bytes: 160 MB."""
    val, test = of_many_classes(500)
    tracemalloc.start()
    evaluate(val, test)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_file_edited_by_hand_is_said(tmp_path, draw):
    val, test = draw(n=20, split="val"), draw(n=20)
    given = {"class_names": val.class_names, "task": val.task}
    path = tmp_path / "predictions.csv"
    write_predictions(path, [val, test])
    expected = evaluate(val, test, resamples=5)["fingerprint"]
    assert len(expected) == 64
    read_predictions(path, **given, fingerprint=expected)
    content = path.read_text()
    # Written by another program, with the same content.
    path.write_bytes(b"\xef\xbb\xbf" + content.replace("test,", '"test",').encode())
    read_predictions(path, **given, fingerprint=expected)
    lines = content.splitlines()
    label = lines[5].split(",")[2]
    lines[5] = lines[5].replace(f",{label},", f",{(int(label) + 1) % 4},", 1)
    path.write_text("\n".join(lines))
    read_predictions(path, **given)
    with pytest.raises(InputError, match=r"csv is not the file that metrics\.json was"):
        read_predictions(path, **given, fingerprint=expected)


def test_everything_counts_for_the_fingerprint(draw):
    test = replace(draw(n=10), groups=("a",) * 10, columns={"site": ("x",) * 10})
    probs = test.probs.copy()
    probs[3] = probs[3][::-1]
    changed = [
        replace(test, split="val"),
        replace(test, ids=("other", *test.ids[1:])),
        replace(test, labels=3 - test.labels),
        replace(test, probs=probs),
        replace(test, class_names=("a", "b", "c", "d")),
        replace(test, task="ordinal"),
        replace(test, groups=None),
        replace(test, groups=("a",) * 9 + ("b",)),
        replace(test, columns={}),
        replace(test, columns={"place": ("x",) * 10}),
        replace(test, columns={"site": ("x",) * 9 + ("y",)}),
    ]
    prints = {fingerprint_of([one]) for one in (test, *changed)}
    assert len(prints) == len(changed) + 1
    val = draw(n=10, split="val")
    assert fingerprint_of([val, test]) == fingerprint_of([test, val])


def test_options_are_checked(draw):
    val, test = draw(n=20, split="val"), draw(n=20)
    for options, message in (
        ({"prevalence": 0.1}, "for binary tasks, and this one is multiclass"),
        ({"calibration": "platt"}, "not for a multiclass one. Use temperature or v"),
        ({"threshold": "younden"}, "Did you mean 'youden'"),
        ({"resamples": 0}, "resamples must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(val, test, **options)
