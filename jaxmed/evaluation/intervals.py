"""95 % intervals by the bootstrap, for many metrics at once.

The images of a split are drawn with replacement, each time as many as there are, and
every metric is computed again from how often each image was drawn; the interval goes
from the 2.5th to the 97.5th percentile (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, section 13.3). The draw is stratified: within each true class, so
that a rare class is in every resample as often as in the split.

A metric that is a ratio can be 0/0 in some resamples (precision, if nothing is
predicted to be of the class); its interval is that of the other resamples.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxmed.errors import InputError
from jaxmed.progress import progress

LEVEL = 0.95
QUANTILES = (0.025, 0.975)
# Counts per chunk of resamples: few enough to stay in the processor's cache, but at
# least 16 resamples while that takes less memory than LARGEST doubles.
CHUNK = 200_000
LARGEST = 2_000_000
# Progress is shown if all resamples are expected to take longer than this, in
# seconds, judged after the warm-up.
PATIENCE = 2.0
WARM_UP = 0.5

Key = tuple[str, ...]
Estimate = dict[str, Any]


class Undefined(NamedTuple):
    """The value of a metric that has none.

    Attributes:
        reason: a few words: "one class only".
    """

    reason: str


class Measure(Protocol):
    """One or more metrics of the same predictions, computed together.

    A key is the metric's place in the result: ("auroc",) or
    ("per_class", "melanoma", "recall"). A measure may name in an attribute `biased`
    the keys of errors that resampling itself enlarges; see `_unbiased`.
    """

    def values(self) -> dict[Key, float | Undefined]:
        """Computes the metrics of the split itself."""
        ...

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples.

        Args:
            counts: float64 (n, resamples), how often each image was drawn.

        Returns:
            By the keys of `values`: float64 (resamples,), NaN where undefined.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How to resample.

    Attributes:
        resamples: at least 1; 2,000 make the interval's ends stable to about a
            twentieth of its width.
        seed: at least 0; the same seed gives the same intervals.
    """

    resamples: int = 2000
    seed: int = 0

    def __post_init__(self):
        if self.resamples < 1:
            raise InputError(f"resamples must be at least 1, got {self.resamples}.")
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, got {self.seed}.")

    def counts(self, strata: np.ndarray) -> Iterator[np.ndarray]:
        """Draws resamples, a chunk at a time.

        Args:
            strata: int (n,); images are drawn within equal numbers.

        Yields:
            float64 (n, resamples in the chunk), each column summing to n. Together
            the chunks have `resamples` columns, which do not depend on how they are
            cut into chunks.
        """
        n = len(strata)
        by_stratum = np.argsort(strata, kind="stable")
        _, starts, sizes = np.unique(
            strata[by_stratum], return_index=True, return_counts=True
        )
        start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        generator = np.random.default_rng(self.seed)
        width = max(1, min(64, max(16, CHUNK // n), LARGEST // n))
        for first in range(0, self.resamples, width):
            columns = min(width, self.resamples - first)
            drawn = start + (generator.random((columns, n)) * size).astype(np.int64)
            cells = by_stratum[drawn] * columns + np.arange(columns)[:, None]
            counts = np.bincount(cells.ravel(), minlength=n * columns)
            yield counts.reshape(n, columns).astype(np.float64)


def strata_of(labels: np.ndarray) -> np.ndarray:
    """Returns the strata of a draw: the true classes, or one if multilabel (n, k)."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def method_of(task: str) -> str:
    """Names the method for a reader of metrics.json."""
    stratified = "" if task == "multilabel" else ", stratified by true class"
    return f"percentile bootstrap over images{stratified}"


def estimate(
    measures: Sequence[Measure],
    strata: np.ndarray,
    bootstrap: Bootstrap,
    *,
    description: str = "Intervals",
) -> dict[Key, Estimate]:
    """Computes metrics and their intervals.

    Args:
        measures: of the same n images; no key twice.
        strata: int (n,), see `strata_of`.
        bootstrap: how to resample.
        description: shown with the progress, if it takes long.

    Returns:
        By key: {"value", "ci_low", "ci_high"} of plain floats, or None for all three
        and a "reason".
    """
    values: dict[Key, float | Undefined] = {}
    for measure in measures:
        values |= measure.values()
    samples = _resample(measures, strata, bootstrap, description)
    for measure in measures:
        for key in getattr(measure, "biased", ()):
            samples[key] = _unbiased(samples[key], values[key])
    return {key: as_estimate(value, samples[key]) for key, value in values.items()}


def _unbiased(samples: np.ndarray, value: float | Undefined) -> np.ndarray:
    """Takes the bootstrap's estimate of the bias off the samples of an error.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, eq. 10.3: the bias
    is the mean of the resamples less the value. Errors stay at 0 or above.
    """
    if isinstance(value, Undefined):
        return samples
    return np.maximum(samples - (samples.mean() - value), 0)


def _resample(measures, strata, bootstrap, description) -> dict[Key, np.ndarray]:
    chunks: dict[Key, list[np.ndarray]] = {}
    started, done, advance = time.monotonic(), 0, None
    with ExitStack() as stack:
        for counts in bootstrap.counts(strata):
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
