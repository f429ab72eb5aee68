"""What the bootstrap draws: images, or groups of images such as patients."""

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
        strata: int (m,), one per unit; units are drawn within equal numbers.
        cluster: int (n,), the unit of each image; None if each image is its own.
    """

    strata: np.ndarray
    cluster: np.ndarray | None = None


def units_of(predictions: Predictions) -> Units:
    """Chooses the units of a split: its groups where it has some, else its images.

    The images of one patient are not independent, so that an interval from drawing
    them one by one is too narrow (Field and Welsh, "Bootstrapping clustered data",
    JRSS B 2007). Images are stratified by true class, so that a rare class is in
    every resample as often as in the split; groups by the rarest true class of their
    images. Multilabel tasks have no strata.
    """
    n = len(predictions.ids)
    labels = predictions.labels
    classes = labels if labels.ndim == 1 else np.zeros(n, np.int64)
    if predictions.groups is None:
        return Units(classes)
    # An image of an unknown patient counts as a patient of its own.
    names = [(name, 0 if name else i) for i, name in enumerate(predictions.groups)]
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if len(places) == n:
        return Units(classes)
    cluster = np.array([places[name] for name in names])
    rarity = np.argsort(np.argsort(np.bincount(classes), kind="stable"))
    strata = np.full(len(places), n, np.int64)
    np.minimum.at(strata, cluster, rarity[classes])
    return Units(strata, cluster)


def method_of(task: str, units: Units) -> str:
    """Names the method for a reader of metrics.json."""
    if units.cluster is None:
        drawn, by = "images", "true class"
    else:
        drawn, by = "groups of images", "the rarest true class of a group"
    stratified = "" if task == "multilabel" else f", stratified by {by}"
    return f"percentile bootstrap over {drawn}{stratified}"


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
        """Draws resamples, a chunk at a time.

        Yields:
            float64 (n, resamples in the chunk), how often each image is drawn. Together
            the chunks have `resamples` columns, which do not depend on how they are
            cut into chunks. A column sums to n; where groups are drawn, to n on
            average.
        """
        strata, cluster = units
        m = len(strata)
        by_stratum = np.argsort(strata, kind="stable")
        _, starts, sizes = np.unique(
            strata[by_stratum], return_index=True, return_counts=True
        )
        start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        generator = np.random.default_rng(self.seed)
        n = m if cluster is None else len(cluster)
        width = max(1, min(64, max(16, CHUNK // n), LARGEST // n))
        for first in range(0, self.resamples, width):
            columns = min(width, self.resamples - first)
            drawn = start + (generator.random((columns, m)) * size).astype(np.int64)
            cells = by_stratum[drawn] * columns + np.arange(columns)[:, None]
            counts = np.bincount(cells.ravel(), minlength=m * columns)
            counts = counts.reshape(m, columns).astype(np.float64)
            yield counts if cluster is None else counts[cluster]
