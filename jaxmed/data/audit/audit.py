"""Audit of a data set: counts, sizes, duplicates, leakage and blank images.

Files that cannot be used are no part of it, but for the reasons why they were skipped:
unless they are told to skip them, the loaders refuse them with their names.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.audit.duplicates import (
    BLANK,
    RADIUS,
    SIMILARITY,
    Alike,
    Duplicates,
    Fingerprints,
    find_duplicates,
    join_fingerprints,
    name_labels,
    part_length,
    take_fingerprints,
)
from jaxmed.data.dataset import MISSING, SPLITS, Dataset, Split
from jaxmed.data.images.decode import read_header
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.images.window import STORED_BITS, has_few_levels
from jaxmed.data.splits.grouping import Overlap, find_overlap
from jaxmed.runtime.progress import progress

Headers = dict[str, dict[str, dict[str, dict[str, int]]]]
"""By split, by class: {"sizes": {"1024 x 768": 12}, "modes": {"L": 12}}."""


def read_headers(data: Dataset, root: Path) -> Headers:
    """Counts sizes, width x height in pixels, and modes of the files of a data set.

    Modes are those of `FileHeader`: Pillow's L (gray), RGB, RGBA, P (palette), CMYK,
    I;16 and so on, and DICOM's with the bits stored.

    Args:
        data: its ids are paths below `root`.
        root: the folder.

    Returns:
        See `Headers`; the most frequent first.
    """
    splits = {name: getattr(data, name) for name in SPLITS}
    total = sum(map(len, splits.values()))
    headers: Headers = {}
    with (
        warnings.catch_warnings(),
        progress("Reading headers", total, unit="files") as advance,
    ):
        # About large images; the loader has decided about them.
        warnings.simplefilter("ignore")
        for split, images in splits.items():
            by_label: dict[str, tuple[Counter, Counter]] = {}
            labels = name_labels(data, images.labels)
            for name, label in zip(images.ids, labels, strict=True):
                sizes, modes = by_label.setdefault(label, (Counter(), Counter()))
                with open(root / name, "rb") as file:
                    header = read_header(file, name)
                sizes[f"{header.width} x {header.height}"] += 1
                modes[header.mode] += 1
                advance(1)
            headers[split] = {
                label: {
                    "sizes": dict(sizes.most_common()),
                    "modes": dict(modes.most_common()),
                }
                for label, (sizes, modes) in sorted(by_label.items())
            }
    return headers


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Of a data set.

    Attributes:
        prints: the fingerprints of all images, those of train first, then val, test.
        gray: by split, the share of images whose channels are all equal.
        few_levels: ids of images of few gray levels, see `has_few_levels`.
        means: by class, the mean training image, uint8 (h, w, c); a class without
            images has none.
    """

    prints: Fingerprints
    gray: dict[str, float]
    few_levels: tuple[str, ...]
    means: dict[str, np.ndarray]


def survey(data: Dataset) -> Survey:
    """Looks at every image once: those that stay in their files are decoded for it."""
    splits: dict[str, Split] = {name: getattr(data, name) for name in SPLITS}
    members = _members(data)
    totals = np.zeros((len(members), *data.train.images.shape[1:]), np.int64)
    prints, gray, few = [], {}, []
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
            gray[name] = equal / len(split)
    means = {
        name: np.rint(total / chosen.sum()).astype(np.uint8)
        for name, total, chosen in zip(data.class_names, totals, members, strict=True)
        if chosen.any()
    }
    return Survey(
        prints=join_fingerprints(prints),
        gray=gray,
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


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found in a data set.

    Attributes:
        name, source, task, class_names, fingerprint: of the `Dataset`.
        images: by split, {"count", "height", "width", "channels", "gray"}; gray is the
            share of images whose channels are all equal.
        files: what the files were like before loading; None for other sources.
        counts: by split, images of every class.
        imbalance: by split, the largest class over the smallest; None if one is empty.
        only_in: by class, the split that alone has it.
        missing: by split, the classes it lacks.
        unknown: by split, of how many images a class is not known, for the classes of
            which there are such.
        duplicates: images that occur twice, and blank ones.
        patients: groups on both sides; None where groups are not known.
        skipped: the reasons, by name, why files were left out.
        notes: sentences on what the loader decided, see `Dataset`.
        window: what becomes black and white of more than 8 bits, in a phrase; "" if
            that is what each file names, or its stored bits.
        few_levels: ids of images of fewer gray levels than `FEW_LEVELS`.
        means: by class, the mean training image, uint8 (h, w, c); see `Survey`.
    """

    name: str
    source: str
    task: str
    class_names: tuple[str, ...]
    fingerprint: str
    images: dict[str, dict[str, Any]]
    files: Headers | None
    counts: dict[str, dict[str, int]]
    imbalance: dict[str, float | None]
    only_in: dict[str, str]
    missing: dict[str, tuple[str, ...]]
    unknown: dict[str, dict[str, int]]
    duplicates: Duplicates
    patients: Overlap | None
    skipped: dict[str, str]
    notes: tuple[str, ...]
    window: str
    few_levels: tuple[str, ...]
    means: dict[str, np.ndarray] = field(repr=False)

    @property
    def leaks(self) -> dict[str, int]:
        """How many duplicates and groups lie across splits; all 0 if nothing leaks."""
        return {
            "exact": sum(group.across for group in self.duplicates.exact),
            "near": sum(group.across for group in self.duplicates.near),
            "patients": len(self.patients.across) if self.patients else 0,
        }

    def table(self) -> dict[str, Any]:
        """Returns everything but the mean images as nested dicts, as JSON holds it."""
        duplicates = self.duplicates
        fields = asdict(replace(self, means={}))
        del fields["means"]
        return fields | {
            "leaks": self.leaks,
            "duplicates": {
                "exact": [_table(group) for group in duplicates.exact],
                "near": [_table(group) for group in duplicates.near],
                "complete": duplicates.complete,
                "radius": RADIUS,
                "similarity": SIMILARITY,
            },
            "blank": {"ids": duplicates.blank, "below": BLANK},
        }


def audit(data: Dataset, *, group_pattern: str = "", root: Path | None = None) -> Audit:
    """Looks a data set through.

    Args:
        data: the data set.
        group_pattern: finds each image's patient in its id, see `find_groups`; ""
            takes the groups that the data set has, if it has any.
        root: the folder that the ids are paths of files below; None if they are not.

    Raises:
        InputError: the pattern cannot be used, see `find_groups`.
    """
    overlap = find_overlap(data, group_pattern)
    seen = survey(data)
    splits: dict[str, Split] = {name: getattr(data, name) for name in SPLITS}
    counts = {name: count_classes(data, split) for name, split in splits.items()}
    return Audit(
        name=data.name,
        source=data.source,
        task=data.task,
        class_names=data.class_names,
        fingerprint=data.fingerprint,
        images={
            name: _describe(split.images, seen.gray[name])
            for name, split in splits.items()
        },
        files=None if root is None else read_headers(data, root),
        counts=counts,
        imbalance={name: _imbalance(by_class) for name, by_class in counts.items()},
        only_in=_only_in(counts),
        missing={
            name: tuple(label for label, count in by_class.items() if count == 0)
            for name, by_class in counts.items()
        },
        unknown={name: _count_unknown(data, split) for name, split in splits.items()},
        duplicates=find_duplicates(data, seen.prints),
        patients=overlap,
        skipped=dict(data.skipped),
        notes=data.notes,
        window="" if data.window == STORED_BITS else data.window.describe(),
        few_levels=seen.few_levels,
        means=seen.means,
    )


def count_classes(data: Dataset, split: Split) -> dict[str, int]:
    """Counts the images of every class; in a multilabel task, those that have it."""
    if data.task == "multilabel":
        counts = (split.labels == 1).sum(axis=0)
    else:
        counts = np.bincount(split.labels, minlength=len(data.class_names))
    return dict(zip(data.class_names, counts.tolist(), strict=True))


def _count_unknown(data: Dataset, split: Split) -> dict[str, int]:
    if data.task != "multilabel":
        return {}
    counts = (split.labels == MISSING).sum(axis=0).tolist()
    named = zip(data.class_names, counts, strict=True)
    return {name: count for name, count in named if count}


def _describe(images: ImageArray, gray: float) -> dict[str, Any]:
    count, height, width, channels = images.shape
    shape = {"count": count, "height": height, "width": width, "channels": channels}
    return shape | {"gray": gray}


def _imbalance(counts: Mapping[str, int]) -> float | None:
    fewest = min(counts.values())
    return max(counts.values()) / fewest if fewest else None


def _only_in(counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    sole_split = {}
    for label in counts["train"]:
        holders = [split for split in SPLITS if counts[split][label]]
        if len(holders) == 1:
            sole_split[label] = holders[0]
    return sole_split


def _table(group: Alike) -> dict[str, Any]:
    across = {"across_splits": group.across, "labels_differ": group.labels_differ}
    return asdict(group) | across
