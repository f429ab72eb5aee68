"""95 % intervals by the bootstrap, for many metrics at once.

The images of a split are drawn with replacement, or its groups where it has some, and
every metric is computed again from how often each image was drawn; the interval goes
from the 2.5th to the 97.5th percentile (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, section 13.3). See `jaxmed.evaluation.resampling` for the draw.

A metric that is a ratio can be 0/0 in some resamples (precision, if nothing is
predicted to be of the class); its interval is that of the other resamples.

Numbers that have an interval by formula get it beside that of the bootstrap: AUROC
DeLong's, proportions Wilson's. Both take images as independent, so there is none
where groups are drawn.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from jaxmed.evaluation.resampling import Bootstrap, Units
from jaxmed.progress import progress

LEVEL = 0.95
QUANTILES = (0.025, 0.975)
# Progress is shown if all resamples are expected to take longer than this, in
# seconds, judged after the warm-up.
PATIENCE = 2.0
WARM_UP = 0.5

Key = tuple[str, ...]
Estimate = dict[str, Any]
Interval = tuple[float, float]


class Undefined(NamedTuple):
    """The value of a metric that has none.

    Attributes:
        reason: a few words: "one class only".
    """

    reason: str


class Measure(ABC):
    """One or more metrics of the same n images, computed together.

    A key is the metric's place in the result: ("auroc",) or
    ("per_class", "melanoma", "recall").

    Attributes:
        images: n.
        biased: the keys of errors that resampling itself enlarges; see `_unbiased`.
    """

    images: int
    biased: Sequence[Key] = ()

    @abstractmethod
    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples.

        Args:
            counts: float64 (n, resamples), how often each image was drawn.

        Returns:
            float64 (resamples,) by key, NaN where undefined.
        """

    @abstractmethod
    def reason(self, key: Key) -> Undefined:
        """Says why a metric of the split itself is NaN."""

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself: each image drawn once."""
        once = self.resampled(np.ones((self.images, 1)))
        return {
            key: self.reason(key) if np.isnan(sample[0]) else float(sample[0])
            for key, sample in once.items()
        }

    def by_formula(self) -> Mapping[Key, Mapping[str, Interval | None]]:
        """Computes the intervals that need no resampling: by key and method."""
        return {}


def estimate(
    measures: Sequence[Measure],
    units: Units,
    bootstrap: Bootstrap,
    *,
    description: str = "Intervals",
) -> dict[Key, Estimate]:
    """Computes metrics and their intervals.

    Args:
        measures: of the same n images; no key twice.
        units: what is drawn.
        bootstrap: how to resample.
        description: shown with the progress, if it takes long.

    Returns:
        By key: {"value", "ci_low", "ci_high"} of plain floats, or None for all three
        and a "reason"; with {"ci_low", "ci_high"} under "wilson" or "delong" where
        there is such an interval.
    """
    values: dict[Key, float | Undefined] = {}
    for measure in measures:
        values |= measure.values()
    samples = resample(measures, units, bootstrap, description)
    for measure in measures:
        for key in measure.biased:
            samples[key] = _unbiased(samples[key], values[key])
    estimates = {key: as_estimate(value, samples[key]) for key, value in values.items()}
    if units.cluster is None:
        for measure in measures:
            for key, intervals in measure.by_formula().items():
                for method, ends in intervals.items():
                    if ends is not None and estimates[key]["value"] is not None:
                        low, high = map(float, ends)
                        estimates[key][method] = {"ci_low": low, "ci_high": high}
    return estimates


def value_only(measures: Sequence[Measure], reason: str) -> dict[Key, Estimate]:
    """Computes metrics without intervals, and says why they have none."""
    none = {"ci_low": None, "ci_high": None, "reason": reason}
    return {
        key: as_estimate(value, np.empty(0))
        if isinstance(value, Undefined)
        else {"value": value} | none
        for measure in measures
        for key, value in measure.values().items()
    }


def nested(estimates: Mapping[Key, Estimate]) -> dict[str, Any]:
    """Turns keys into places: ("per_class", "a", "f1") is ["per_class"]["a"]["f1"]."""
    tree: dict[str, Any] = {}
    for (*above, name), found in estimates.items():
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[name] = found
    return tree


def _unbiased(samples: np.ndarray, value: float | Undefined) -> np.ndarray:
    """Takes the bootstrap's estimate of the bias off the samples of an error.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, eq. 10.3: the bias
    is the mean of the resamples less the value. Errors stay at 0 or above.
    """
    if isinstance(value, Undefined) or np.isnan(samples).all():
        return samples
    return np.maximum(samples - (np.nanmean(samples) - value), 0)


def resample(
    measures: Sequence[Measure],
    units: Units,
    bootstrap: Bootstrap,
    description: str = "Intervals",
) -> dict[Key, np.ndarray]:
    """Computes metrics in every resample: float64 (resamples,) by key."""
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


def as_estimate(value: float | Undefined, samples: np.ndarray) -> Estimate:
    """Puts a value and its percentile interval in the form of metrics.json.

    Args:
        value: of the split itself.
        samples: float64 (resamples,); NaN are left out.
    """
    if isinstance(value, Undefined):
        none = {"value": None, "ci_low": None, "ci_high": None}
        return none | {"reason": value.reason}
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        interval = {"ci_low": None, "ci_high": None}
        return {"value": float(value)} | interval | {"reason": "in no resample"}
    low, high = np.quantile(defined, QUANTILES)
    return {"value": float(value), "ci_low": float(low), "ci_high": float(high)}
