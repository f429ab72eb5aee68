"""Range of gray values of a data set, found in its training images alone.

A sample of them, spread evenly over the split, stands for all; so 100,000 files are not
decoded twice, and everyone who has the files finds the same range.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.dataset import SPLITS, Dataset, Split
from jaxmed.data.images.decode import read_gray
from jaxmed.data.images.lazy import ImageArray, LazyImages
from jaxmed.data.images.load import read_images
from jaxmed.data.images.open import Reading
from jaxmed.data.images.picture import OWN_SCALE, STORED_SCALE, UnusableImage
from jaxmed.data.images.window import AUTO, Gray, Window, parse_window
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors
from jaxmed.runtime.progress import progress

SAMPLE = 200
"""Training images that are looked at."""
PIXELS = 10_000
"""Pixels of each, so that large ones count no more than small ones."""
USED = 128
"""Gray levels of 256 that "auto" wants to be used, before it narrows the range."""


def settle_window(data: Dataset, reading: Reading) -> Dataset:
    """Finds what a data set's window still lacks, and decodes what waited for it.

    Args:
        data: split, as a source gave it.
        reading: as the source was given it.

    Returns:
        The data set with a window that is not pending. Its images are in memory if
        they fit there.

    Raises:
        InputError: the window has no use or no sense for these images, or files cannot
            be used.
    """
    window, images = parse_window(reading.window), data.train.images
    if not isinstance(images, LazyImages):
        # No image has asked for limits.
        if window.setting != AUTO:
            raise _no_use(data, window)
        return replace(data, window=_without_limits(window))
    if window.setting != AUTO and not (images.scales >= OWN_SCALE).any():
        raise _no_use(data, window)
    if window.pending:
        window = _find_window(images, window)
    splits = {name: getattr(data, name) for name in SPLITS}
    parts: dict[str, Any] = apply_window(splits, window, reading)
    return replace(data, window=window, **parts)


def apply_window(
    splits: Mapping[str, Split], window: Window, reading: Reading
) -> dict[str, Split]:
    """Give lazy images their window, and decode them if they fit in memory.

    Args:
        splits: by name; those whose images are in memory stay as they are.
        window: one that is not pending.
        reading: as the source was given it.

    Raises:
        InputError: files cannot be used.
    """
    lazy = {
        name: replace(split.images, window=window)
        for name, split in splits.items()
        if isinstance(split.images, LazyImages)
    }
    arrays: Mapping[str, ImageArray] = lazy
    if lazy and sum(part.nbytes for part in lazy.values()) <= reading.budget:
        first = next(iter(lazy.values()))
        arrays = read_images(
            first.root,
            {name: part.files for name, part in lazy.items()},
            where=first.source,
            image_size=first.image_size,
            resizing=first.resizing,
            window=window,
        )
    return dict(splits) | {
        name: replace(splits[name], images=images) for name, images in arrays.items()
    }


def find_limits(grays: list[Gray], window: Window) -> tuple[float, float] | None:
    """Finds the values that become black and white.

    Args:
        grays: images of a sample.
        window: whose percentiles these values are.

    Returns:
        None under "auto" where the range of the stored bits serves as well: at least
        `USED` gray levels are used.

    Raises:
        InputError: all values are the same.
    """
    values = [_sample(gray) for gray in grays]
    low, high = np.percentile(np.concatenate(values), window.percentiles).tolist()
    if window.setting == AUTO:
        shares = [
            (part - gray.full[0]) / (gray.full[1] - gray.full[0])
            for part, gray in zip(values, grays, strict=True)
            if gray.full is not None
        ]
        first, last = np.percentile(np.concatenate(shares), window.percentiles)
        if 255 * (last - first) >= USED or low == high:
            return None
    elif low == high:
        raise InputError(
            f"data.window is {window.setting}, and these percentiles of the training "
            f"images are both {low:g}. Set others, or CENTER,WIDTH."
        )
    return low, high


def _find_window(images: LazyImages, window: Window) -> Window:
    """Returns the window with its limits, found in training images."""
    scales = images.scales
    concerned = scales >= (STORED_SCALE if window.setting == AUTO else OWN_SCALE)
    if not concerned.any():
        return _without_limits(window)
    rows = np.flatnonzero(concerned)
    chosen = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)]
    paths = [images.root / images.files[row] for row in chosen]
    grays = [gray for gray in _read_all(paths, window, images.source) if gray]
    if not grays:
        # None can be used, as whoever decodes them says.
        return _without_limits(window)
    return replace(window, limits=find_limits(grays, window))


def _read_all(paths: list[Path], window: Window, source: str) -> list[Gray | None]:
    def read(path: Path) -> Gray | None:
        try:
            return read_gray(path, window)
        except UnusableImage:
            return None

    grays = []
    with (
        progress(f"Gray values of {source}", len(paths), unit="images") as advance,
        ThreadPoolExecutor(count_processors()) as pool,
    ):
        for gray in pool.map(read, paths):
            # Of a large image no more than the sample stays in memory.
            grays.append(gray and gray._replace(values=_sample(gray), padding=None))
            advance(1)
    return grays


def _sample(gray: Gray) -> np.ndarray:
    """Returns at most `PIXELS` values, float64 (n,), evenly spread, without padding."""
    values = gray.values.ravel()
    if gray.padding is not None and not gray.padding.all():
        values = values[~gray.padding.ravel()]
    indices = np.linspace(0, len(values) - 1, min(PIXELS, len(values))).astype(int)
    return values[indices].astype(np.float64)


def _without_limits(window: Window) -> Window:
    return replace(window, limits=None)


def _no_use(data: Dataset, window: Window) -> InputError:
    return InputError(
        f"data.window is {window.setting!r}, and the training images of {data.source} "
        "have 8 bits, which need no window. Leave it out."
    )
