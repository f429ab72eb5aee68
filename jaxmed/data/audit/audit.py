"""The sheet of a data set: what is in it, and what is wrong with it.

Files that cannot be used are no part of it, but for the reasons why they were skipped:
unless they are told to skip them, the loaders refuse them with their names.
"""

from collections.abc import Mapping
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
    find_duplicates,
)
from jaxmed.data.audit.headers import Headers, read_headers
from jaxmed.data.audit.leakage import Overlap, find_overlap
from jaxmed.data.audit.survey import survey
from jaxmed.data.dataset import MISSING, SPLITS, Dataset, Split
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.images.window import STORED_BITS


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found in a data set.

    Attributes:
        name, source, task, class_names, fingerprint: of the `Dataset`.
        images: by split, {"count", "height", "width", "channels", "grey"}; grey is the
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
            "exact": sum(found.across for found in self.duplicates.exact),
            "near": sum(found.across for found in self.duplicates.near),
            "patients": len(self.patients.across) if self.patients else 0,
        }

    def table(self) -> dict[str, Any]:
        """Returns everything but the mean images as nested dicts, as JSON holds it."""
        found = self.duplicates
        fields = asdict(replace(self, means={}))
        del fields["means"]
        return fields | {
            "leaks": self.leaks,
            "duplicates": {
                "exact": [_table(one) for one in found.exact],
                "near": [_table(one) for one in found.near],
                "complete": found.complete,
                "radius": RADIUS,
                "similarity": SIMILARITY,
            },
            "blank": {"ids": found.blank, "below": BLANK},
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
            name: _describe(split.images, seen.grey[name])
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


def _describe(images: ImageArray, grey: float) -> dict[str, Any]:
    count, height, width, channels = images.shape
    shape = {"count": count, "height": height, "width": width, "channels": channels}
    return shape | {"grey": grey}


def _imbalance(counts: Mapping[str, int]) -> float | None:
    fewest = min(counts.values())
    return max(counts.values()) / fewest if fewest else None


def _only_in(counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    found = {}
    for label in counts["train"]:
        holders = [split for split in SPLITS if counts[split][label]]
        if len(holders) == 1:
            found[label] = holders[0]
    return found


def _table(found: Alike) -> dict[str, Any]:
    across = {"across_splits": found.across, "labels_differ": found.labels_differ}
    return asdict(found) | across
