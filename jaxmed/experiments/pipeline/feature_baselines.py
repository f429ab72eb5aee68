"""Fit of a `FeatureClassifier` to cached features, and its predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmed.data.dataset import MISSING, Dataset
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.evaluation.predictions import Predictions
from jaxmed.inference.activations import ActivationStore
from jaxmed.inference.features import compute_features
from jaxmed.inference.forward import as_predictions
from jaxmed.models.classifier import Classifier
from jaxmed.strategies.presets.feature_classifiers import FeatureClassifier
from jaxmed.training.model_selection import SELECTORS, validation_scores

SPLITS = ("train", "val", "test")


def fit_feature_classifier(
    model: Classifier,
    data: Dataset,
    strategy: FeatureClassifier,
    *,
    preprocessing: Preprocessing,
    select: str = "val_auroc",
    store: ActivationStore | None = None,
) -> tuple[dict[str, Predictions], dict[str, Any]]:
    """Fits a classifier to the training images' features and predicts val and test.

    Args:
        model: its backbone computes in eval mode and stays as it is.
        data: test decides nothing.
        strategy: which classifier.
        preprocessing: uint8 images to the model's input.
        select: what chooses among its settings on val, see `fit`.
        store: of activations, which may have the features already.

    Returns:
        Predictions by split; and what was chosen, in the form of `FitResult.best`.
    """
    features = {
        split: compute_features(
            model,
            getattr(data, split),
            preprocessing=preprocessing,
            store=store,
            description=f"Features of {split}",
        )
        for split in SPLITS
    }
    if strategy.neighbors:
        candidates = {f"{strategy.neighbors} neighbors": {}}
    else:
        candidates = {f"C = {c:g}": {"C": c} for c in strategy.penalties}
    trials = []
    for name, options in candidates.items():
        probs = _probabilities(strategy, features, data, options)
        predictions = {s: as_predictions(data, s, probs[s]) for s in ("val", "test")}
        score = _score(predictions["val"], select)
        trials.append((score, name, predictions))
    sign = 1 if SELECTORS[select] else -1
    # The earliest, and so the strongest penalty, of equals.
    score, name, predictions = max(trials, key=lambda each: sign * each[0])
    best = {"phase": f"{strategy.name}, {name}", "epoch": 0}
    return predictions, best | {"metric": select, "value": score}


def _score(val: Predictions, select: str) -> float:
    """Return what selects; loss and accuracy are of probabilities as they stand."""
    known = val.known
    if select == "val_loss":
        chosen = np.where(val.truth, val.probs, 1 - val.probs)
        columns = val.truth if val.task != "multilabel" else known
        return float(-np.log(np.maximum(chosen, 1e-7))[columns].mean())
    if select == "val_accuracy":
        if val.task == "multilabel":
            return float(((val.probs > 0.5) == val.truth)[known].mean())
        return float((val.probs.argmax(axis=1) == val.labels).mean())
    score = validation_scores(val, select)[select]
    assert score is not None, f"{select} was checked to be defined"
    return score


def _probabilities(
    strategy: FeatureClassifier,
    features: Mapping[str, np.ndarray],
    data: Dataset,
    options: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    labels, classes = data.train.labels, len(data.class_names)
    if data.task != "multilabel":
        rows = np.arange(len(labels))
        return _fit(strategy, features, labels, rows, classes, options)
    # Several labels are several binary problems, each on the images whose label is
    # known.
    columns = [
        _fit(strategy, features, of, np.flatnonzero(of != MISSING), 2, options)
        for of in labels.T
    ]
    return {
        split: np.stack([column[split][:, 1] for column in columns], axis=1)
        for split in ("val", "test")
    }


def _fit(
    strategy: FeatureClassifier,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
    classes: int,
    options: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Fits one classifier; returns float32 (n, classes) by split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if strategy.neighbors:
        count = min(strategy.neighbors, len(rows))
        classifier = KNeighborsClassifier(n_neighbors=count)
    else:
        regression = LogisticRegression(max_iter=5000, **options)
        classifier = make_pipeline(StandardScaler(), regression)
    classifier.fit(features["train"][rows].astype(np.float64), labels[rows])
    probs = {}
    for split in ("val", "test"):
        # A class without a training image has no column there, and probability 0.
        probs[split] = np.zeros((len(features[split]), classes), np.float32)
        predicted = classifier.predict_proba(features[split].astype(np.float64))
        probs[split][:, classifier.classes_] = predicted
    return probs
