"""Images and patients of an external set that a run was trained on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxmed.data.dataset import Split
from jaxmed.data.splits.split_file import read_rows
from jaxmed.runs.layout import SPLIT

# Ids that number the images of any source; they name none.
NUMBERED = re.compile(r"(train|val|test)/\d{6}")


@dataclass(frozen=True, kw_only=True)
class TrainingOverlap:
    """What an external set shares with the images that a run has seen.

    Attributes:
        images: ids of images with the same pixels as one of train or val.
        ids: ids that name one of train or val, as a number alone does not.
        groups: patients with images in train or val.
        tested: how many images have the pixels or the id of one of the run's test.
        pixels: whether pixels could be compared.
    """

    images: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tested: int = 0
    pixels: bool = False

    def __bool__(self) -> bool:
        return bool(self.images or self.ids or self.groups)

    def describe(self) -> str:
        """Return a phrase: "2 images (such as a.png) and 1 patient (such as 17)"."""
        images = tuple(dict.fromkeys([*self.images, *self.ids]))
        parts = [
            f"{len(names):,} {noun}{'s' * (len(names) > 1)} (such as {names[0]})"
            for noun, names in (("image", images), ("patient", self.groups))
            if names
        ]
        return " and ".join(parts)


def find_training_overlap(
    folders: Iterable[Path], images: Split
) -> TrainingOverlap | None:
    """Find images and patients that runs were trained or selected on.

    Args:
        folders: of the runs.
        images: of the external set.

    Returns:
        None where a run has no split file, such as a model that was shared.
    """
    rows = []
    for folder in folders:
        if not (folder / SPLIT).is_file():
            return None
        rows += read_rows(folder / SPLIT)
    seen = [row for row in rows if row["split"] != "test"]
    hashes = {row.get("hash") for row in seen} - {None, ""}
    names = {row["id"] for row in seen}
    groups = {row.get("group") for row in seen} - {None, ""}
    # A patient of one image is named like the image, and found as that.
    patients = set(images.groups or ()) - {""} - set(images.ids)
    tested = [row for row in rows if row["split"] == "test"]
    of_test = {row.get("hash") for row in tested} | {row["id"] for row in tested}
    pairs = list(zip(images.ids, images.hashes, strict=True))
    return TrainingOverlap(
        images=tuple(name for name, digest in pairs if digest in hashes),
        ids=tuple(n for n in images.ids if n in names and not NUMBERED.fullmatch(n)),
        groups=tuple(sorted(patients & groups)),
        tested=sum(
            digest in of_test or (name in of_test and not NUMBERED.fullmatch(name))
            for name, digest in pairs
        ),
        pixels=any(
            _kind(value) == _kind(images.hashes[0]) for value in hashes if value
        ),
    )


def _kind(digest: str) -> bool:
    """Tell whether a hash is of a file, and not of pixels."""
    return "-" in digest
