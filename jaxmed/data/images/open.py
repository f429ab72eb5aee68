"""Opening of a source's image files: in memory if they fit there, else lazily."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxmed.data.images.header_index import Index, read_index
from jaxmed.data.images.lazy import ImageArray, LazyImages
from jaxmed.data.images.load import cannot_use, read_images
from jaxmed.data.images.picture import NO_SCALE, UNKNOWN_RANGE
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import AUTO, RangeNeeded, parse_window
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.memory import host_memory

ON_ERROR = ("stop", "skip")
# Of the machine's memory: the images of a run, copies of parts, and the program.
SHARE = 4


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source reads image files.

    Attributes:
        resizing: how images become squares.
        memory: gigabytes that the decoded images of all splits may take; those of
            larger sets stay in their files, see `LazyImages`. 0 means all sets, None
            a quarter of this machine's memory.
        on_error: "stop" refuses files that cannot be used; "skip" leaves them out.
        window: which gray values become black and white, see `Window.setting`.

    Raises:
        InputError: a negative number, or another word.
    """

    resizing: Resizing = SQUASH
    memory: float | None = None
    on_error: str = "stop"
    window: str = AUTO

    def __post_init__(self) -> None:
        parse_window(self.window)
        if self.memory is not None and not self.memory >= 0:
            raise InputError(
                f"The memory budget must be at least 0 gigabytes, got {self.memory}."
            )
        if self.on_error not in ON_ERROR:
            raise unknown("way to treat unusable files", self.on_error, ON_ERROR)

    @property
    def skips(self) -> bool:
        return self.on_error == "skip"

    @property
    def budget(self) -> float:
        """Bytes that decoded images may take."""
        return host_memory() / SHARE if self.memory is None else self.memory * 1e9


READING = Reading()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Images of a source.

    Attributes:
        images: by split, of the files that are left.
        rows: by split, the places, int (m,), of these among the files given.
        skipped: the reason, by name, why a file was left out.
    """

    images: Mapping[str, ImageArray]
    rows: Mapping[str, np.ndarray]
    skipped: dict[str, str]


def open_images(
    root: Path,
    files: Mapping[str, Sequence[str]],
    *,
    where: str,
    image_size: int | None,
    reading: Reading = READING,
    cache: Path | None = None,
) -> Opened:
    """Opens the image files of a source.

    Args:
        root: the folder that paths start from.
        files: paths below `root`, with forward slashes, by split. None is empty.
        where: the start of a sentence, such as "folder:scans".
        image_size: side in pixels that the network gets.
        reading: how.
        cache: the folder for the index of files that stay on disk, see `read_index`.

    Returns:
        Arrays as `read_images` gives them, or `LazyImages`: of a set too large for
        memory, or one whose window waits for what is trained on, see `settle_window`.

    Raises:
        InputError: files that cannot be used, all in one sentence, unless they are
            skipped; no usable file; or no `image_size` where one is needed.
    """
    names = [name for group in files.values() for name in group]
    skipped: dict[str, str] = {}
    index = _index_if_large(root, names, where, image_size, reading, cache)
    window = parse_window(reading.window)
    if index is None and window.setting == AUTO:
        try:
            images = read_images(
                root,
                files,
                where=where,
                image_size=image_size,
                resizing=reading.resizing,
                window=window,
                skipped=skipped if reading.skips else None,
            )
            return Opened(images=images, rows=_rows(files, skipped), skipped=skipped)
        except RangeNeeded:
            # The images wait until it is known which are to be trained on.
            pass
    if index is None:
        index = read_index(
            root,
            names,
            where=where,
            window=window,
            verify=reading.skips,
            cache=cache,
        )
    bad = dict(index.bad)
    if not window.has_range:
        unknown = np.flatnonzero(index.entries["scale"] == NO_SCALE).tolist()
        bad |= dict.fromkeys(unknown, UNKNOWN_RANGE)
    skipped = {names[row]: bad[row] for row in sorted(bad)}
    if len(skipped) == len(names) or (skipped and not reading.skips):
        reasons = [f"{name} ({reason})" for name, reason in skipped.items()]
        raise cannot_use(where, reasons, len(names))
    usable = np.delete(index.entries, list(bad))
    all_images = LazyImages(
        root=root.resolve(),
        files=tuple(names),
        image_size=image_size or _one_side(usable, where),
        resizing=reading.resizing,
        channels=int(usable["channels"].max()),
        digests=index.entries["digest"],
        scales=index.entries["scale"],
        window=window,
        source=where,
    )
    lazy, rows, start = {}, _rows(files, skipped), 0
    for split in files:
        lazy[split] = all_images.take(rows[split] + start)
        start += len(files[split])
    return Opened(images=lazy, rows=rows, skipped=skipped)


def _index_if_large(
    root: Path,
    names: Sequence[str],
    where: str,
    image_size: int | None,
    reading: Reading,
    cache: Path | None,
) -> Index | None:
    """Returns the index of files whose decoded images are too large for memory."""
    budget = reading.budget
    if image_size is None:
        if budget == 0:
            raise InputError(
                f"{where}: with no memory for them, images are decoded when they are "
                "needed, to squares of one size. Give image_size, their side."
            )
        return None
    # What no image is larger than needs no look at the files.
    side = reading.resizing.stored_side(image_size)
    if len(names) * side**2 * 3 <= budget:
        return None
    window = parse_window(reading.window)
    index = read_index(
        root, names, where=where, window=window, verify=reading.skips, cache=cache
    )
    usable = np.delete(index.entries, list(index.bad))
    if len(usable) == 0:
        return index
    sizes = np.unique(usable[["width", "height"]])
    height, width = int(sizes[0]["height"]), int(sizes[0]["width"])
    if len(sizes) > 1 or max(height, width) > side:
        height = width = side
    needed = len(names) * height * width * int(usable["channels"].max())
    return index if needed > budget else None


def _one_side(entries: np.ndarray, where: str) -> int:
    """Returns the longer side of images that all have one size."""
    sizes = np.unique(entries[["width", "height"]]).tolist()
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for width, height in sizes[:2])
        raise InputError(
            f"{where}: the images have different sizes, such as {shown} pixels. Give "
            "image_size, the side of the square to bring them to."
        )
    return max(sizes[0])


def _rows(
    files: Mapping[str, Sequence[str]], skipped: Mapping[str, str]
) -> dict[str, np.ndarray]:
    return {
        split: np.array([i for i, name in enumerate(group) if name not in skipped], int)
        for split, group in files.items()
    }
