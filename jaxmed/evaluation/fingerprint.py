"""Tells whether predictions are those that metrics were computed from."""

import hashlib
from collections.abc import Iterable

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions

EVALUATED = ("val", "test")


def fingerprint_of(splits: Iterable[Predictions]) -> str:
    """Computes SHA-256 (hex) over everything that predictions hold.

    It depends neither on the order of the splits nor on how the file that they are
    read from is written; splits that `evaluate` does not see do not count.
    """
    digest = hashlib.sha256()
    for one in sorted(splits, key=lambda one: EVALUATED.index(one.split)):
        _add(digest, one.split, one.task, *one.class_names)
        _add(digest, str(one.labels.shape), *one.ids)
        digest.update(one.labels.astype("<i8").tobytes())
        digest.update(one.probs.astype("<f8").tobytes())
        _add(digest, "groups", *(one.groups or ()))
        for name, texts in one.columns.items():
            _add(digest, "column", name, *texts)
    return digest.hexdigest()


def fingerprint_of_images(predictions: Predictions) -> str:
    """Computes SHA-256 (hex) over what is not the model's: task, ids and labels.

    It depends on the order neither of the images nor of the classes.
    """
    digest = hashlib.sha256()
    order = sorted(range(len(predictions.ids)), key=predictions.ids.__getitem__)
    columns = sorted(
        range(len(predictions.class_names)), key=predictions.class_names.__getitem__
    )
    labels = predictions.labels[order]
    if predictions.task == "multilabel":
        labels = labels[:, columns]
    else:
        labels = np.argsort(columns)[labels]
    _add(digest, predictions.task, *(predictions.class_names[i] for i in columns))
    _add(digest, *(predictions.ids[i] for i in order))
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def check_fingerprint(splits: Iterable[Predictions], expected: str, where: str) -> None:
    """Checks that predictions are those of a fingerprint.

    Args:
        splits: as read from a file.
        expected: `metrics["fingerprint"]`.
        where: the file, for the message.

    Raises:
        InputError: they are not.
    """
    found = fingerprint_of(one for one in splits if one.split in EVALUATED)
    if found != expected:
        raise InputError(
            f"{where} is not the file that metrics.json was computed from: its "
            f"fingerprint is {found[:12]}, expected {expected[:12]}. It was edited or "
            "replaced; restore it, or evaluate it anew."
        )


def _add(digest: "hashlib._Hash", *texts: str) -> None:
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}:".encode())
        digest.update(content)
