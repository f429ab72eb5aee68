"""One-vs-rest counts and their metrics, for thousands of resamples at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import FEW, Undefined

ONE_CLASS = Undefined("one class only")
NO_IMAGE = Undefined("no image of this class")
ALL_IMAGES = Undefined("every image is of this class")
NEVER_PREDICTED = Undefined("never predicted")
ALWAYS_PREDICTED = Undefined("always predicted")
NEITHER = Undefined("no image of this class, and never predicted")
NO_FALSE_POSITIVE = Undefined("no false positive")
NO_TRUE_NEGATIVE = Undefined("no true negative")
ONE_OUTCOME = Undefined("labels or decisions are all alike")
ALL_ALIKE = Undefined("labels and decisions are all alike")

Array = np.ndarray


class Tallies(NamedTuple):
    """Counts of images, float64 (k, resamples) each.

    Attributes:
        both: of the class and predicted to be (true positives).
        true: of the class.
        predicted: predicted to be of the class.
        n: with a known label.
    """

    both: Array
    true: Array
    predicted: Array
    n: Array

    def one_sided(self, names: Sequence[str], units: Units) -> Undefined | None:
        """Return a reason if too few units are not of the most frequent class."""
        largest = int(self.true.sum(axis=1).argmax())
        others = (self.n[largest] > self.true[largest]).sum()
        return scarcity(names[largest], FEW, others, units)

    def scarce(self, names: Sequence[str], units: Units) -> list[Undefined | None]:
        """Return a reason for every class with too few units (the columns)."""
        having = (self.true > 0).sum(axis=1)
        lacking = (self.n > self.true).sum(axis=1)
        rows = zip(names, having, lacking, strict=True)
        return [scarcity(*row, units) for row in rows]


def scarcity(name: str, having: int, lacking: int, units: Units) -> Undefined | None:
    """Return a reason if a class has too few units for a bootstrap.

    Args:
        name: of the class.
        having: units with an image of the class.
        lacking: units with one that is not.
        units: what is drawn.
    """
    if having < FEW:
        return Undefined(f"fewer than {FEW} {units.noun} of {name!r}")
    if lacking < FEW:
        return Undefined(f"fewer than {FEW} {units.noun} that are not of {name!r}")
    return None


class ClassCounts:
    """Counts right and wrong decisions per class, each against the rest.

    Args:
        truth: bool (n, k), whether the image is of the class.
        decided: bool (n, k), whether it is said to be.
        known: bool (n, k), whether `truth` is known.
    """

    def __init__(self, truth: Array, decided: Array, known: Array):
        parts = [truth & decided, truth, decided & known]
        self._all_known, self._images = bool(known.all()), len(known)
        if not self._all_known:
            parts.append(known)
        stacked = sparse.csr_array(np.concatenate(parts, axis=1).T)
        self._indicators = stacked.astype(np.float64)

    def by_unit(self, units: Units) -> Tallies:
        """Count in each unit: (k, m)."""
        n = self._images
        rows = np.arange(n)
        unit_of = rows if units.cluster is None else units.cluster
        members = sparse.csr_array((np.ones(n), (rows, unit_of)), (n, units.size))
        sums: Any = self._indicators @ members
        return self._split(sums.toarray(), np.bincount(unit_of, minlength=units.size))

    def __call__(self, counts: Array) -> Tallies:
        """Count in resamples: counts is (n, resamples)."""
        return self._split(np.asarray(self._indicators @ counts), counts.sum(axis=0))

    def _split(self, sums: Array, images: Array) -> Tallies:
        if self._all_known:
            both, true, predicted = np.split(sums, 3)
            n = np.broadcast_to(images, both.shape).astype(np.float64)
            return Tallies(both, true, predicted, n)
        return Tallies(*np.split(sums, 4))


def scores(tallies: Tallies) -> dict[str, Array]:
    """Compute one-vs-rest metrics: (k, resamples) each.

    Definitions are scikit-learn's: sensitivity is `recall_score`, specificity that of
    the rest, PPV `precision_score`, NPV that of the rest, likelihood ratios
    `class_likelihood_ratios`, MCC `matthews_corrcoef`, kappa `cohen_kappa_score`. What
    has a denominator of 0 is NaN, also where scikit-learn puts 0 in its place.
    """
    both, true, predicted, n = tallies
    neither = n - true - predicted + both
    missed, alarms = true - both, predicted - both
    false = n - true
    sensitivity, specificity = ratio(both, true), ratio(neither, false)
    return {
        "accuracy": ratio(both + neither, n),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": ratio(both, predicted),
        "npv": ratio(neither, n - predicted),
        "lr_positive": ratio(both * false, alarms * true),
        "lr_negative": ratio(missed * false, neither * true),
        "f1": ratio(2 * both, true + predicted),
        "mcc": ratio(
            both * neither - alarms * missed,
            np.sqrt(true * false * predicted * (n - predicted)),
        ),
        "kappa": ratio(
            2 * (both * neither - alarms * missed),
            predicted * false + true * (n - predicted),
        ),
        "youden_j": sensitivity + specificity - 1,
    }


def why_undefined(metric: str, true: float, n: float) -> Undefined:
    """Return why a score of the whole split is NaN.

    Args:
        metric: one of those of `scores`.
        true: images of the class.
        n: images.
    """
    if metric in ("mcc", "kappa"):
        return ONE_OUTCOME if metric == "mcc" else ALL_ALIKE
    if metric in ("ppv", "npv"):
        return NEVER_PREDICTED if metric == "ppv" else ALWAYS_PREDICTED
    if metric == "f1":
        return NEITHER
    if not true or metric == "sensitivity":
        return NO_IMAGE
    if true == n:
        return ALL_IMAGES
    return NO_FALSE_POSITIVE if metric == "lr_positive" else NO_TRUE_NEGATIVE


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; what is divided by 0 is NaN, without a warning.

    Examples:
        >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
        array([0.5, nan])
    """
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    nan = np.full(shape, np.nan)
    return np.divide(numerator, denominator, out=nan, where=denominator != 0)
