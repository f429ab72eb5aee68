"""Metrics with 95 % intervals, many at once.

By default an interval is from the bootstrap: the images of a split are drawn with
replacement, or its groups where it has some, and every metric is computed again from
how often each image was drawn. The interval goes from percentile to percentile (Efron
and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3); these are a
little beyond the 2.5th and the 97.5th, see `levels`.

The bootstrap knows only what it has drawn from: of three positives that were all found
it says that all are found, for certain. Where there is an interval by formula that
covers also then, a measure gives that instead, under the name of its method (see
`Measure.intervals`); where there is none, neither, and the reason why.

A metric that is a ratio can be 0/0 in some resamples; its interval is that of the
other resamples.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units
from jaxmed.runtime.progress import progress

LEVEL = 0.95
# Of fewer units than these, resamples are too much alike to tell how others would be.
FEW = 5
# Progress is shown if all resamples are expected to take longer than this, in
# seconds, measured after the warm-up.
PATIENCE = 2.0
WARM_UP = 0.5

Key = tuple[str, ...]
Estimate = dict[str, Any]


class Interval(NamedTuple):
    """The ends of a 95 % interval, and the method if it is not the plain bootstrap."""

    low: float
    high: float
    method: str | None = None


class Undefined(NamedTuple):
    """The value of a metric that has none.

    Attributes:
        reason: a few words: "one class only".
    """

    reason: str


SAME = Undefined("the same in every resample")


class Measure(ABC):
    """One or more metrics of the same n images, computed together.

    A key is the metric's place in the result: ("auroc",) or
    ("per_class", "melanoma", "recall").

    Attributes:
        images: n.
    """

    images: int

    @abstractmethod
    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Compute the metrics of resamples.

        Args:
            counts: float64 (n, resamples), how often each image was drawn.

        Returns:
            float64 (resamples,) by key, NaN where undefined.
        """

    @abstractmethod
    def reason(self, key: Key) -> Undefined:
        """Return why a metric of the whole split is NaN."""

    def values(self) -> dict[Key, float | Undefined]:
        """Compute the metrics of the split itself: each image drawn once."""
        once = self.resampled(np.ones((self.images, 1)))
        return {
            key: self.reason(key) if np.isnan(sample[0]) else float(sample[0])
            for key, sample in once.items()
        }

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> Mapping[Key, Interval | Undefined]:
        """Compute the intervals that are not the percentiles of resamples.

        Args:
            units: what is drawn.
            samples: of the bootstrap, see `resampled`.

        Returns:
            By key; with a reason where there is none. Keys that have no value count
            for nothing.
        """
        return {}

    def remarks(self, units: Units) -> Mapping[Key, Mapping[str, Any]]:
        """Return additional entries of an estimate, such as a "note", by key."""
        return {}


def estimate(
    measures: Sequence[Measure],
    units: Units,
    bootstrap: Bootstrap,
    *,
    description: str = "Intervals",
) -> dict[Key, Estimate]:
    """Compute metrics and their intervals.

    Args:
        measures: of the same n images; no key twice.
        units: what is drawn.
        bootstrap: how to resample.
        description: shown with the progress, if it takes long.

    Returns:
        By key: {"value", "ci_low", "ci_high"} of plain floats, with "method" where the
        interval is not the bootstrap's, and "note" where a reader must know more. None
        for what there is not, and a "reason".
    """
    values: dict[Key, float | Undefined] = {}
    for measure in measures:
        values |= measure.values()
    samples = resample(measures, units, bootstrap, description)
    intervals: dict[Key, Interval | Undefined] = {}
    remarks: dict[Key, Mapping[str, Any]] = {}
    for measure in measures:
        intervals |= measure.intervals(units, samples)
        remarks |= measure.remarks(units)
    estimates = {}
    for key, value in values.items():
        if key in intervals and not isinstance(value, Undefined):
            estimates[key] = _with_interval(value, intervals[key])
        else:
            drawn = samples.get(key, np.empty(0))
            estimates[key] = as_estimate(value, drawn, units.size)
        estimates[key] |= remarks.get(key, {})
    return estimates


def value_only(measures: Sequence[Measure], reason: str) -> dict[Key, Estimate]:
    """Compute metrics without intervals, with the reason why they have none."""
    none = {"ci_low": None, "ci_high": None, "reason": reason}
    return {
        key: as_estimate(value, np.empty(0))
        if isinstance(value, Undefined)
        else {"value": value} | none
        for measure in measures
        for key, value in measure.values().items()
    }


def nested(estimates: Mapping[Key, Estimate]) -> dict[str, Any]:
    """Nest keys: ("per_class", "a", "f1") becomes ["per_class"]["a"]["f1"]."""
    tree: dict[str, Any] = {}
    for (*above, name), leaf in estimates.items():
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[name] = leaf
    return tree


def resample(
    measures: Sequence[Measure],
    units: Units,
    bootstrap: Bootstrap,
    description: str = "Intervals",
) -> dict[Key, np.ndarray]:
    """Compute metrics in every resample: float64 (resamples,) by key."""
    chunks: dict[Key, list[np.ndarray]] = {}
    started, done, advance = time.monotonic(), 0, None
    with ExitStack() as stack:
        for counts in bootstrap.counts(units):
            for measure in measures:
                for key, sample in measure.resampled(counts).items():
                    chunks.setdefault(key, []).append(sample)
            done += counts.shape[1]
            elapsed = time.monotonic() - started
            slow = elapsed * bootstrap.resamples / done > PATIENCE
            if advance is not None:
                advance(counts.shape[1])
            elif slow and elapsed > WARM_UP:
                bar = progress(description, bootstrap.resamples, unit="resamples")
                advance = stack.enter_context(bar)
                advance(done)
    return {key: np.concatenate(parts) for key, parts in chunks.items()}


def as_estimate(
    value: float | Undefined, samples: np.ndarray, units: int | None = None
) -> Estimate:
    """Format a value and its percentile interval as metrics.json has them.

    Args:
        value: of the split itself.
        samples: float64 (resamples,); NaN are left out.
        units: how many were drawn from, see `levels`. If they are fewer than `FEW`, or
            resamples do not differ, there is no interval: these cannot tell how sure
            the value is.

    Returns:
        None for what there is not, and a "reason".
    """
    if isinstance(value, Undefined):
        none = {"value": None, "ci_low": None, "ci_high": None}
        return none | {"reason": value.reason}
    defined = samples[~np.isnan(samples)]
    if units is not None and units < FEW:
        return _with_interval(value, Undefined(f"fewer than {FEW} were drawn from"))
    if not len(defined):
        return _with_interval(value, Undefined("in no resample"))
    low, high = map(float, np.quantile(defined, levels(units)))
    if units is not None and low == high:
        return _with_interval(value, SAME)
    return _with_interval(value, Interval(low, high))


def levels(units: int | None = None) -> tuple[float, float]:
    """Return the quantiles of resamples that are the ends of an interval.

    Resamples of m units vary less than test sets of m units do, by (m - 1) / m, and
    their quantiles are the normal's where Student's are due. Quantiles farther out make
    up for both (Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 2015, section 5.3): of 10 units the 0.9th and the 99.1st
    percentile, of 1,000 the 2.48th and the 97.52nd.

    Args:
        units: m; None for very many.
    """
    tail = (1 - LEVEL) / 2
    if units is not None and units > 1:
        far = stdtrit(units - 1, tail) * (units / (units - 1)) ** 0.5
        tail = float(ndtr(far))
    return tail, 1 - tail


def student(freedom: np.ndarray | float) -> np.ndarray:
    """Return the half width of a 95 % interval in standard errors, by Student's t."""
    return stdtrit(np.maximum(freedom, 1), (1 + LEVEL) / 2)


def _with_interval(value: float, interval: Interval | Undefined) -> Estimate:
    if isinstance(interval, Undefined):
        none = {"ci_low": None, "ci_high": None, "reason": interval.reason}
        return {"value": float(value)} | none
    low, high, method = interval
    ends = {"value": float(value), "ci_low": float(low), "ci_high": float(high)}
    return ends if method is None else ends | {"method": method}
