"""Predictions by patient: those of a patient's images made into one."""

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.bootstrap import units_of
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.predictions import MISSING, Predictions

METHODS = ("mean", "max", "noisy_or")
SEVERAL_CLASSES = Undefined("a patient has images of several classes")


def check_aggregation(method: str, task: str) -> None:
    """Check that a method is known and is for the task.

    Raises:
        InputError: it is not.
    """
    if method not in (*METHODS, "off"):
        raise unknown("by_patient", method, (*METHODS, "off"))
    if method in METHODS[1:] and task not in ("binary", "multilabel"):
        raise InputError(
            f"by_patient {method!r} is for binary and multilabel tasks, and this one "
            f"is {task}, whose classes exclude each other. Use mean."
        )


def aggregate_patients(
    predictions: Predictions, method: str = "mean"
) -> Predictions | Undefined:
    """Make one prediction of the images of each patient.

    A patient is positive if any image is; a label of a multilabel task is not known if
    no known image has it and some are not known. In other tasks all images of a patient
    must be of one class.

    Args:
        predictions: with groups. An image of an unknown patient is one of its own.
        method: "mean" of the probabilities; "max", that of the most suspicious image;
            or "noisy_or", 1 - prod(1 - p), the probability that any image is positive
            if they were independent (Pearl, "Probabilistic Reasoning in Intelligent
            Systems", 1988, section 4.3.2). Of a binary task, of the positive class.

    Returns:
        Predictions without groups and columns, a row a patient, in the order in which
        they occur; undefined where a patient has images of several classes.

    Examples:
        >>> test = Predictions(
        ...     split="test",
        ...     ids=("a1", "a2", "b1"),
        ...     labels=np.array([0, 1, 0]),
        ...     probs=np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]),
        ...     class_names=("normal", "pneumonia"),
        ...     task="binary",
        ...     groups=("a", "a", "b"),
        ... )
        >>> aggregate_patients(test, "noisy_or").probs[:, 1].round(3).tolist()
        [0.9, 0.1]
        >>> aggregate_patients(test, "noisy_or").labels.tolist()
        [1, 0]
    """
    units = units_of(predictions)
    n, k = predictions.probs.shape
    cluster = np.arange(n) if units.cluster is None else units.cluster
    labels = _labels(predictions, cluster, units.size)
    if isinstance(labels, Undefined):
        return labels
    if method == "mean":
        sizes = np.bincount(cluster, minlength=units.size)
        probs = np.zeros((units.size, k))
        np.add.at(probs, cluster, predictions.probs)
        probs /= sizes[:, None]
    elif method == "max":
        probs = np.zeros((units.size, k))
        np.maximum.at(probs, cluster, predictions.probs)
    else:
        negative = np.ones((units.size, k))
        np.multiply.at(negative, cluster, 1 - predictions.probs)
        probs = 1 - negative
    if predictions.task == "binary":
        probs = np.stack([1 - probs[:, 1], probs[:, 1]], axis=1)
    return Predictions(
        split=predictions.split,
        ids=tuple(map(str, range(units.size))),
        labels=labels,
        probs=np.clip(probs, 0, 1),
        class_names=predictions.class_names,
        task=predictions.task,
    )


def _labels(
    predictions: Predictions, cluster: np.ndarray, patients: int
) -> np.ndarray | Undefined:
    labels = predictions.labels
    highest = np.full((patients, *labels.shape[1:]), MISSING, np.int64)
    np.maximum.at(highest, cluster, labels)
    if predictions.task == "binary":
        return highest
    if predictions.task == "multilabel":
        unknown_too = np.zeros(highest.shape, bool)
        np.logical_or.at(unknown_too, cluster, labels == MISSING)
        return np.where((highest == 0) & unknown_too, MISSING, highest)
    return highest if (labels == highest[cluster]).all() else SEVERAL_CLASSES
