"""Exact and near duplicates among the images of a data set.

Exact duplicates have equal pixels. Near duplicates are first looked for by perceptual
hash, within `RADIUS` bits, and then compared: their thumbnails of 32 x 32 gray pixels
must correlate by `SIMILARITY` or more. The hash alone will not do where all images
look alike. Of 5,216 chest X-rays, in which no pair is a near duplicate to the eye, 182
pairs differ by at most 5 bits and 36,000 by at most 11; none of these correlates by
more than 0.975, and of PneumoniaMNIST's none by more than 0.979. Copies of 300 of the
X-rays, recompressed as JPEG (quality 10), brightened by 40 levels, with noise or at a
third of the size, differ by at most 6 bits and correlate by 0.992 or more. Copies that
are cropped by 2 % on every side, turned by 3 degrees or mirrored are mostly missed.

The hash is the 64-bit pHash (Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions", 2010, section 3.2): an image is averaged down to 32 x 32 gray
pixels, of whose cosine transform (type II) the 8 x 8 lowest frequencies are compared
with their median. The constant term, which is brightness, is left out: 63 bits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.data.images.lazy import ImageArray
from jaxmed.runtime.files import hash_64
from jaxmed.runtime.progress import progress

SIDE = 32
"""Of a thumbnail, pixels."""
LOW = 8
"""Frequencies kept, in each direction."""
MOST_VALUES, MOST_IMAGES = 2**24, 1024
"""Values of pixels, and images, worked on at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Of n images.

    Attributes:
        digests: uint64 (n,); equal where all pixels are.
        hashes: uint64 (n,); few bits differ where images look alike.
        thumbnails: float16 (n, 1024), mean 0 and length 1, so that the product of two
            is their correlation in [-1, 1]; about 0 for a constant image.
        deviations: float32 (n,), standard deviation of the gray levels, 0 to 127.5.
    """

    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    deviations: np.ndarray


def part_length(images: ImageArray) -> int:
    """Returns how many of the images (n, h, w, c) to work on at once."""
    return max(1, min(MOST_IMAGES, MOST_VALUES // math.prod(images.shape[1:])))


def take_fingerprints(images: np.ndarray) -> Fingerprints:
    """Takes the fingerprints of uint8 images (n, h, w, c), at least one."""
    gray = images.mean(axis=3, dtype=np.float32)
    thumbnails = shrink(gray)
    flat = thumbnails.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return Fingerprints(
        digests=np.array(
            [hash_64(np.ascontiguousarray(image).data) for image in images], np.uint64
        ),
        hashes=hash_thumbnails(thumbnails),
        thumbnails=(flat / np.maximum(norms, 1)).astype(np.float16),
        deviations=gray.std(axis=(1, 2)),
    )


def join_fingerprints(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Joins the fingerprints of several groups of images, in their order."""
    names = [field.name for field in fields(Fingerprints)]
    joined = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
    return Fingerprints(**joined)


def shrink(gray: np.ndarray) -> np.ndarray:
    """Averages float32 images (n, h, w) over areas: (n, 32, 32).

    Pixels that lie on an edge count with their share; so small images are enlarged.
    """
    height, width = gray.shape[1:]
    return _areas(height) @ gray @ _areas(width).T


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Computes the hashes of gray thumbnails, float32 (n, 32, 32).

    Returns:
        uint64 (n,).
    """
    order, pixel = np.arange(LOW)[:, None], np.arange(SIDE)
    cosines = np.cos(np.pi * order * (2 * pixel + 1) / (2 * SIDE)).astype(np.float32)
    waves = (cosines @ thumbnails @ cosines.T).reshape(len(thumbnails), LOW * LOW)
    above = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    return np.packbits(above, axis=1).view(np.uint64)[:, 0]


def _areas(side: int) -> np.ndarray:
    """Returns the weights, float32 (32, side), that average `side` pixels to 32."""
    edges = np.linspace(0, side, SIDE + 1)
    pixels = np.arange(side)
    shares = np.minimum(edges[1:, None], pixels + 1)
    shares -= np.maximum(edges[:-1, None], pixels)
    shares = np.clip(shares, 0, None)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


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
    total = 0
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
            total += len(similar)
            if total > MOST_PAIRS:
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
        left = prints.thumbnails[first].astype(np.float32)
        right = prints.thumbnails[second].astype(np.float32)
        similar = np.minimum((left * right).sum(axis=1), 1.0)
        good = (similar >= SIMILARITY) & (digests[first] != digests[second])
        kept.append(np.flatnonzero(good) + start)
        values.append(similar[good])
    return np.concatenate(kept), np.concatenate(values)
