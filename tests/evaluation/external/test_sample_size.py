"""Numbers of images for an interval's width, against the formula."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxmed.evaluation import Predictions, evaluate
from jaxmed.evaluation.external.sample_size import images_needed


def metrics_of(task, classes):
    rng, n = np.random.default_rng(0), 200
    labels = rng.choice(classes, n, p=[0.7, *[0.3 / (classes - 1)] * (classes - 1)])
    logits = 2 * np.eye(classes)[labels] + rng.normal(size=(n, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    splits = [
        Predictions(
            split=split, ids=tuple(f"{split}{i}" for i in range(n)), labels=labels,
            probs=probs, class_names=tuple("abcd"[:classes]), task=task,
        )
        for split in ("val", "test")
    ]  # fmt: skip
    return evaluate(*splits, resamples=20)


def width(p, n):
    """Wilson's interval, from its two roots in closed form."""
    z = norm.ppf(0.975)
    return 2 * z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5


def test_proportions_have_wilsons_interval():
    metrics = metrics_of("binary", 2)
    needed = images_needed(metrics, widths=(0.2, 0.1))
    assert needed["widths"] == [0.2, 0.1]
    assert set(needed["metrics"]) == {"auroc", "sensitivity", "specificity"}
    for name in ("sensitivity", "specificity"):
        entry = needed["metrics"][name]
        value, share = entry["value"], entry["share"]
        assert value == metrics["test_at_threshold"][name]["value"]
        for images, wide in zip(entry["images"], (0.2, 0.1), strict=True):
            assert width(value, images * share) <= wide
            assert width(value, (images - 1) * share) > wide


def test_of_an_auroc_four_times_the_images_halve_the_interval():
    entry = images_needed(metrics_of("binary", 2), widths=(0.02, 0.01))
    first, second = entry["metrics"]["auroc"]["images"]
    assert second / first == pytest.approx(4, rel=0.1)


def test_of_several_classes_each_has_its_own():
    needed = images_needed(metrics_of("multiclass", 3))["metrics"]
    assert {"accuracy", "auroc of a", "recall of c"} <= set(needed)
    # Of a rarer class more images are needed for as many of the class.
    assert needed["recall of a"]["share"] > needed["recall of c"]["share"]
