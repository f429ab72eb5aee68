"""Predictions to evaluate: drawn, with ties, in every kind of task."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxmed.evaluation import Predictions


@pytest.fixture(scope="session")
def draw() -> Callable[..., Predictions]:
    """Draws predictions of a model that is better than chance and overconfident."""

    def draw(task="multiclass", n=200, classes=4, split="test", seed=0, decimals=2):
        random = np.random.default_rng(seed)
        logits = random.normal(size=(n, classes))
        if task == "multilabel":
            labels = random.integers(0, 2, (n, classes))
            probs = 1 / (1 + np.exp(-2 * (logits + labels - 0.5)))
        else:
            # Unequal classes, each of them in every split.
            labels = random.integers(0, classes, n) * random.integers(0, 2, n)
            labels[:classes] = np.arange(classes)
            logits[np.arange(n), labels] += 1
            probs = np.exp(2 * logits)
            probs /= probs.sum(axis=1, keepdims=True)
        if decimals is not None:
            # Rounding down gives tied scores; the first class takes what is missing.
            probs = np.floor(probs * 10**decimals) / 10**decimals
            if task != "multilabel":
                probs[:, 0] = np.maximum(1 - probs[:, 1:].sum(axis=1), 0)
        return Predictions(
            split=split,
            ids=tuple(f"{split}/{i:06d}" for i in range(n)),
            labels=labels,
            probs=probs.astype(np.float32),
            class_names=tuple(f"class {i}" for i in range(classes)),
            task=task,
        )

    return draw
