"""What there is to learn from the pixels of a data set, in one pass over them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxmed.data.audit.perceptual_hash import (
    Fingerprints,
    join_fingerprints,
    part_length,
    take_fingerprints,
)
from jaxmed.data.dataset import SPLITS, Dataset, Split
from jaxmed.data.images.window import has_few_levels
from jaxmed.runtime.progress import progress


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Of a data set.

    Attributes:
        prints: the fingerprints of all images, those of train first, then val, test.
        grey: by split, the share of images whose channels are all equal.
        few_levels: ids of images of few gray levels, see `has_few_levels`.
        means: by class, the mean training image, uint8 (h, w, c); a class without
            images has none.
    """

    prints: Fingerprints
    grey: dict[str, float]
    few_levels: tuple[str, ...]
    means: dict[str, np.ndarray]


def survey(data: Dataset) -> Survey:
    """Looks at every image once: those that stay in their files are decoded for it."""
    splits: dict[str, Split] = {name: getattr(data, name) for name in SPLITS}
    members = _members(data)
    totals = np.zeros((len(members), *data.train.images.shape[1:]), np.int64)
    prints, grey, few = [], {}, []
    images = sum(map(len, splits.values()))
    with progress("Fingerprints of images", images, unit="images") as advance:
        for name, split in splits.items():
            equal = 0
            for start, part in _parts(split):
                prints.append(take_fingerprints(part))
                few += [
                    split.ids[start + i]
                    for i, image in enumerate(part)
                    if has_few_levels(image)
                ]
                equal += int((part == part[..., :1]).all(axis=(1, 2, 3)).sum())
                if name == "train":
                    for total, chosen in zip(totals, members, strict=True):
                        of_class = part[chosen[start : start + len(part)]]
                        total += of_class.sum(axis=0, dtype=np.int64)
                advance(len(part))
            grey[name] = equal / len(split)
    means = {
        name: np.rint(total / chosen.sum()).astype(np.uint8)
        for name, total, chosen in zip(data.class_names, totals, members, strict=True)
        if chosen.any()
    }
    return Survey(
        prints=join_fingerprints(prints),
        grey=grey,
        few_levels=tuple(few),
        means=means,
    )


def _members(data: Dataset) -> np.ndarray:
    """Returns which training images each class has, bool (classes, n)."""
    labels = data.train.labels
    if labels.ndim == 2:
        return labels.T == 1
    return labels == np.arange(len(data.class_names))[:, None]


def _parts(split: Split) -> Iterator[tuple[int, np.ndarray]]:
    """Yields images of a split that fit into memory, and which is the first."""
    length = part_length(split.images)
    for start in range(0, len(split), length):
        yield start, split.images[start : start + length]
