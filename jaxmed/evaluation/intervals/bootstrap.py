"""Bootstrap resamples of images, or of groups of images such as patients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions

# Counts per chunk of resamples: few enough to stay in the processor's cache, but at
# least 16 resamples while that takes less memory than LARGEST doubles.
CHUNK = 200_000
LARGEST = 2_000_000


class Units(NamedTuple):
    """The units that are drawn, with replacement, from n images.

    Attributes:
        size: m, how many there are.
        cluster: int (n,), the unit of each image; None if each image is its own.
    """

    size: int
    cluster: np.ndarray | None = None

    @property
    def noun(self) -> str:
        """Return the plural noun of a unit, for sentences."""
        return "images" if self.cluster is None else "patients"

    def of(self, images: np.ndarray) -> "Units":
        """Return the units of some images, int (p,), for sums over these."""
        if self.cluster is None:
            return Units(len(images))
        return Units(self.size, self.cluster[images])

    def sums(self, parts: np.ndarray) -> np.ndarray:
        """Sum over the images of each unit: float64 (n, k) to (m, k)."""
        if self.cluster is None:
            return np.asarray(parts, np.float64)
        columns = np.asarray(parts, np.float64).T
        sums = [np.bincount(self.cluster, column, self.size) for column in columns]
        return np.stack(sums, axis=1) if sums else np.zeros((self.size, 0))

    def having(self, members: np.ndarray) -> np.ndarray:
        """Count units with at least one member: bool (n, k) to int (k,)."""
        return (self.sums(members) > 0).sum(axis=0)


def units_of(predictions: Predictions) -> Units:
    """Return the units of a split: its groups where it has some, else its images.

    The images of one patient are not independent, so that an interval from drawing
    them one by one is too narrow (Field and Welsh, "Bootstrapping clustered data",
    JRSS B 2007). Units are drawn from the whole split, not within classes: how many
    images are of a class varies from test set to test set, and with it accuracy,
    predictive values, net benefit and all else that depends on the mix of classes.
    """
    n = len(predictions.ids)
    if predictions.groups is None:
        return Units(n)
    # An image of an unknown patient counts as a patient of its own.
    names = [(name, 0 if name else i) for i, name in enumerate(predictions.groups)]
    unit_of = {name: unit for unit, name in enumerate(dict.fromkeys(names))}
    if len(unit_of) == n:
        return Units(n)
    return Units(len(unit_of), np.array([unit_of[name] for name in names]))


def method_of(units: Units) -> str:
    """Return the name of the method for metrics.json."""
    drawn = "images" if units.cluster is None else "groups of images"
    return f"percentile bootstrap over {drawn}"


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

    def counts(self, units: Units) -> Iterator[np.ndarray]:
        """Draw resamples, a chunk at a time.

            Yields:
                float64 (n, resamples in the chunk), how often each image is drawn.
                All chunks together have `resamples` columns, independent of the chunk
                size. A column sums to n; where groups are drawn, to n on average.

        Examples:
            >>> bootstrap = Bootstrap(resamples=3, seed=0)
            >>> (counts,) = bootstrap.counts(Units(size=5))
            >>> counts.shape  # how often each of 5 images occurs in 3 resamples
            (5, 3)
            >>> counts.sum(axis=0)
            array([5., 5., 5.])
        """
        m, cluster = units
        generator = np.random.default_rng(self.seed)
        n = m if cluster is None else len(cluster)
        width = max(1, min(64, max(16, CHUNK // n), LARGEST // n))
        for first in range(0, self.resamples, width):
            columns = min(width, self.resamples - first)
            drawn = (generator.random((columns, m)) * m).astype(np.int64)
            cells = drawn * columns + np.arange(columns)[:, None]
            counts = np.bincount(cells.ravel(), minlength=m * columns)
            counts = counts.reshape(m, columns).astype(np.float64)
            yield counts if cluster is None else counts[cluster]
