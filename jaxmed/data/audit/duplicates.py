"""The same image twice: exactly, or nearly.

Exact duplicates have equal pixels. Near duplicates are first looked for by perceptual
hash, within `RADIUS` bits, and then compared: their thumbnails of 32 x 32 gray pixels
must correlate by `SIMILARITY` or more. The hash alone will not do where all images
look alike. Of 5,216 chest X-rays, in which no pair is a near duplicate to the eye, 182
pairs differ by at most 5 bits and 36,000 by at most 11; none of these correlates by
more than 0.975, and of PneumoniaMNIST's none by more than 0.979. Copies of 300 of the
X-rays, recompressed as JPEG (quality 10), brightened by 40 levels, with noise or at a
third of the size, differ by at most 6 bits and correlate by 0.992 or more. Copies that
are cropped by 2 % on every side, turned by 3 degrees or mirrored are mostly missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxmed.data.audit.perceptual_hash import Fingerprints
from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.runtime.progress import progress

RADIUS = 10
"""Bits of 63 in which near duplicates may differ."""
SIMILARITY = 0.985
"""Least correlation of near duplicates."""
BLANK = 2.0
"""Gray levels of standard deviation below which an image is blank, and has no look."""
MOST_PAIRS = 100_000
"""Near duplicates after which the search ends: films, say, whose frames are alike."""
CELLS = 2**22
"""Pairs of hashes compared at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Images that are the same, two or (if exact) more.

    Attributes:
        kind: "exact" or "near".
        ids, splits, labels: of each image; labels are names.
        distance: bits in which the hashes differ.
        similarity: correlation of the thumbnails.
    """

    kind: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    distance: int
    similarity: float

    @property
    def across(self) -> bool:
        """Whether they lie in different splits."""
        return len(set(self.splits)) > 1

    @property
    def labels_differ(self) -> bool:
        return len(set(self.labels)) > 1


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What was found in a data set.

    Attributes:
        exact: images with equal pixels.
        near: pairs that look the same, the most similar first; blank images are not
            compared.
        complete: whether all near pairs are there, and not just `MOST_PAIRS`.
        blank: ids of images without contrast.
    """

    exact: tuple[Alike, ...]
    near: tuple[Alike, ...]
    complete: bool
    blank: tuple[str, ...]


def find_duplicates(data: Dataset, prints: Fingerprints) -> Duplicates:
    """Finds images that occur more than once, within and across splits.

    Args:
        data: the data set.
        prints: of all its images, see `jaxmed.data.audit.audit.survey`.

    Time grows with the square of the number of images, at about 10^9 pairs in 5 s;
    memory, at about 2 kB for an image, does not.
    """
    splits = [getattr(data, name) for name in SPLITS]
    ids = np.array([i for split in splits for i in split.ids], object)
    names = np.repeat(np.array(SPLITS, object), [len(split) for split in splits])
    labels = np.array(
        [label for split in splits for label in name_labels(data, split.labels)], object
    )

    def alike(kind: str, members: np.ndarray, distance=0, similarity=1.0) -> Alike:
        return Alike(
            kind=kind,
            ids=tuple(ids[members]),
            splits=tuple(names[members]),
            labels=tuple(labels[members]),
            distance=distance,
            similarity=similarity,
        )

    exact = tuple(alike("exact", members) for members in _equal(prints.digests))
    pairs, distances, similarities = _near(prints)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarities))
    near = tuple(
        alike("near", pairs[i], int(distances[i]), float(similarities[i]))
        for i in order[:MOST_PAIRS]
    )
    blank = tuple(ids[prints.deviations < BLANK])
    complete = len(order) <= MOST_PAIRS
    return Duplicates(exact=exact, near=near, complete=complete, blank=blank)


def name_labels(data: Dataset, labels: np.ndarray) -> list[str]:
    """Returns labels in words: "normal", or in a multilabel task "edema, mass"."""
    if labels.ndim == 1:
        return [data.class_names[label] for label in labels]
    return [
        ", ".join(data.class_names[i] for i in np.flatnonzero(row == 1)) or "none"
        for row in labels
    ]


def _equal(digests: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the indices of every group of equal digests, in the order of the first."""
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(np.diff(digests[order])) + 1
    groups = [group for group in np.split(order, starts) if len(group) > 1]
    yield from sorted(groups, key=lambda group: group[0])


def _near(prints: Fingerprints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pairs (m, 2), their distances and similarities; stops when too many."""
    seen = np.flatnonzero(prints.deviations >= BLANK)
    hashes = prints.hashes[seen]
    pairs = [np.empty((0, 2), np.int64)]
    distances, similarities = [np.empty(0, int)], [np.empty(0)]
    rows = max(1, CELLS // max(1, len(seen)))
    found = 0
    with progress("Comparing images", len(seen), unit="images") as advance:
        for start in range(0, len(seen), rows):
            part = hashes[start : start + rows, None]
            apart = np.bitwise_count(part ^ hashes[None, start:])
            first, second = np.nonzero(apart <= RADIUS)
            later = first < second
            first, second = first[later], second[later]
            close = apart[first, second]
            candidates = np.stack([seen[first + start], seen[second + start]], axis=1)
            kept, similar = _similar(prints, candidates)
            pairs.append(candidates[kept])
            distances.append(close[kept].astype(int))
            similarities.append(similar)
            advance(len(part))
            found += len(similar)
            if found > MOST_PAIRS:
                break
    return (
        np.concatenate(pairs),
        np.concatenate(distances),
        np.concatenate(similarities),
    )


def _similar(prints: Fingerprints, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of the pairs are near duplicates, and their similarities."""
    digests, kept, values = prints.digests, [np.empty(0, int)], [np.empty(0)]
    for start in range(0, len(pairs), 4096):
        first, second = pairs[start : start + 4096].T
        one = prints.thumbnails[first].astype(np.float32)
        other = prints.thumbnails[second].astype(np.float32)
        similar = np.minimum((one * other).sum(axis=1), 1.0)
        good = (similar >= SIMILARITY) & (digests[first] != digests[second])
        kept.append(np.flatnonzero(good) + start)
        values.append(similar[good])
    return np.concatenate(kept), np.concatenate(values)
