"""Predictions of a split: ids, labels, probabilities, and their fingerprint."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jaxmed.errors import InputError, unknown

TASKS = ("binary", "multiclass", "multilabel", "ordinal")
SPLITS = ("train", "val", "test")
SUM_TOLERANCE = 1e-4
# A multilabel label that nobody has given. Metrics leave it out.
MISSING = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Labels and predicted probabilities of one split, checked when built.

    Attributes:
        split: "train", "val" or "test".
        ids: (n,) names of the images, no two alike.
        labels: int64 (n,), indices into `class_names`; multilabel: int64 (n, k) of
            0, 1 and, where it is not known, `MISSING`.
        probs: float64 (n, k) in [0, 1], before calibration. Rows sum to one, except
            in multilabel tasks, whose labels are independent. jaxmed's own models
            give float32, which float64 holds exactly.
        class_names: (k,) names, no two alike.
        task: one of `TASKS`. In a binary task k is 2 and the class at index 1 is the
            positive one.
        groups: (n,) what each image is of, such as the patient, "" where that is not
            known; None if no image has one. Intervals draw whole groups.
        columns: other properties of the images, such as site or sex: (n,) texts by
            name, "" where not known.

    Raises:
        InputError: anything of the above does not hold.
    """

    split: str
    ids: tuple[str, ...]
    labels: np.ndarray
    probs: np.ndarray
    class_names: tuple[str, ...]
    task: str
    groups: tuple[str, ...] | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "ids", tuple(map(str, self.ids)))
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(map(str, self.groups)))
        columns = {str(k): tuple(map(str, v)) for k, v in self.columns.items()}
        object.__setattr__(self, "columns", columns)
        self._check_names()
        labels, probs = np.asarray(self.labels), np.asarray(self.probs)
        if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
            raise InputError(f"{self._labels} must be integers, got {labels.dtype}.")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "probs", probs.astype(np.float64))
        self._check_shapes()
        self._check_labels()
        self._check_probs()

    @property
    def truth(self) -> np.ndarray:
        """Return bool (n, k): the image belongs to the class; False if not known."""
        if self.task == "multilabel":
            return self.labels == 1
        return self.labels[:, None] == np.arange(len(self.class_names))

    @property
    def known(self) -> np.ndarray:
        """Return bool (n, k): `truth` is known; all True except in multilabel tasks."""
        if self.task == "multilabel":
            return self.labels != MISSING
        return np.ones((len(self.ids), len(self.class_names)), bool)

    def take(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions for some images, int (m,), in that order."""
        groups = self.groups
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            labels=self.labels[rows],
            probs=self.probs[rows],
            groups=None if groups is None else tuple(groups[i] for i in rows),
            columns={k: tuple(v[i] for i in rows) for k, v in self.columns.items()},
        )

    @property
    def _labels(self) -> str:
        return f"The labels of the {self.split} predictions"

    def _check_names(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        if self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        for noun, names in (("id", self.ids), ("class name", self.class_names)):
            if (twice := _first_duplicate(names)) is not None:
                raise InputError(
                    f"The {self.split} predictions use the {noun} {twice!r} more than "
                    f"once; every {noun} must be unique."
                )
        if not self.ids:
            raise InputError(
                f"The {self.split} predictions are empty; at least one image is needed."
            )
        classes = len(self.class_names)
        if self.task == "binary" and classes != 2:
            raise InputError(f"A binary task has 2 classes, got {classes} class names.")
        if classes < (1 if self.task == "multilabel" else 2):
            raise InputError(
                f"A {self.task} task needs more class names than the {classes} given."
            )

    def _check_shapes(self) -> None:
        images, classes = len(self.ids), len(self.class_names)
        matrix = (images, classes)
        expected = matrix if self.task == "multilabel" else (images,)
        for noun, array, shape in (
            ("labels", self.labels, expected),
            ("probabilities", self.probs, matrix),
        ):
            if array.shape != shape:
                raise InputError(
                    f"The {noun} of the {self.split} predictions must have the shape "
                    f"{shape} ({images} ids, {classes} classes), got {array.shape}."
                )
        texts = {f"column {name!r}": column for name, column in self.columns.items()}
        if self.groups is not None:
            texts["groups"] = self.groups
        for noun, column in texts.items():
            if len(column) != images:
                raise InputError(
                    f"The {noun} of the {self.split} predictions must have a text for "
                    f"each of the {images} images, got {len(column)}."
                )

    def _check_labels(self) -> None:
        multilabel = self.task == "multilabel"
        last = 1 if multilabel else len(self.class_names) - 1
        first, missing = (MISSING, " (-1 if not known)") if multilabel else (0, "")
        wrong = (self.labels < first) | (self.labels > last)
        if wrong.any():
            row = np.argwhere(wrong)[0]
            raise InputError(
                f"{self._labels} must be 0 to {last}{missing}, got "
                f"{self.labels[tuple(row)]} for {self.ids[row[0]]!r}."
            )

    def _check_probs(self) -> None:
        where = f"The {self.split} predictions"
        if np.isnan(self.probs).any():
            row, column = np.argwhere(np.isnan(self.probs))[0]
            raise InputError(
                f"{where} hold NaN: class {self.class_names[column]!r} of "
                f"{self.ids[row]!r}. Did the training diverge?"
            )
        outside = (self.probs < 0) | (self.probs > 1)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise InputError(
                f"{where} must be probabilities in [0, 1], got "
                f"{self.probs[row, column]} for class {self.class_names[column]!r} of "
                f"{self.ids[row]!r}. Are they logits?"
            )
        sums = self.probs.sum(axis=1)
        wrong = np.abs(sums - 1) > SUM_TOLERANCE
        if self.task != "multilabel" and wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{where} must sum to one in each row, got {sums[row]:.6g} for "
                f"{self.ids[row]!r}. Is the task multilabel?"
            )


def _first_duplicate(names: tuple[str, ...]) -> str | None:
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


EVALUATED = ("val", "test")


def fingerprint_of(splits: Iterable[Predictions]) -> str:
    """Compute SHA-256 (hex) over everything that predictions hold.

    It depends neither on the order of the splits nor on how the file that they are
    read from is written; splits that `evaluate` does not see do not count.
    """
    digest = hashlib.sha256()
    for predictions in sorted(
        splits, key=lambda predictions: EVALUATED.index(predictions.split)
    ):
        _add(digest, predictions.split, predictions.task, *predictions.class_names)
        _add(digest, str(predictions.labels.shape), *predictions.ids)
        digest.update(predictions.labels.astype("<i8").tobytes())
        digest.update(predictions.probs.astype("<f8").tobytes())
        _add(digest, "groups", *(predictions.groups or ()))
        for name, texts in predictions.columns.items():
            _add(digest, "column", name, *texts)
    return digest.hexdigest()


def image_fingerprint(predictions: Predictions) -> str:
    """Compute SHA-256 (hex) over what is not the model's: task, ids and labels.

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
    """Check that predictions are those of a fingerprint.

    Args:
        splits: as read from a file.
        expected: `metrics["fingerprint"]`.
        where: the file, for the message.

    Raises:
        InputError: they are not.
    """
    fingerprint = fingerprint_of(
        predictions for predictions in splits if predictions.split in EVALUATED
    )
    if fingerprint != expected:
        raise InputError(
            f"{where} is not the file that metrics.json was computed from: its "
            f"fingerprint is {fingerprint[:12]}, expected {expected[:12]}. It was "
            "edited or replaced; restore it, or evaluate it anew."
        )


def _add(digest: "hashlib._Hash", *texts: str) -> None:
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}:".encode())
        digest.update(content)
