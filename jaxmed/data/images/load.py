"""Loading of many image files into memory, at one shape."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxmed.data.images.decode import decode, fit_square
from jaxmed.data.images.picture import UnusableImage
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors
from jaxmed.runtime.progress import progress

# How many bad files one sentence names.
UNUSABLE_SHOWN = 10


def read_images(
    root: Path,
    files: Mapping[str, Sequence[str]],
    *,
    where: str,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
    skipped: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Decodes many files in parallel and brings them to one shape.

    Images larger than what is kept for `image_size`, and all images if their sizes
    differ, become squares while decoding; no more than that is held in memory.

    Args:
        root: the folder that paths start from.
        files: paths below `root`, with forward slashes, by split. None is empty.
        where: the start of a sentence, such as "folder:scans".
        image_size: side in pixels that the network gets.
        resizing: how images are made squares, and of which size for it.
        window: of images of more than 8 bits.
        skipped: as for `load_images`.

    Returns:
        As `load_images`.

    Raises:
        InputError: as `load_images`.
        RangeNeeded: the window is pending, and an image needs its limits.
    """

    def load(name: str) -> np.ndarray:
        return decode(root / name, image_size, resizing, window)

    return load_images(
        files,
        load,
        where=where,
        image_size=image_size,
        resizing=resizing,
        skipped=skipped,
    )


def load_images(
    ids: Mapping[str, Sequence[str]],
    load: Callable[[str], np.ndarray],
    *,
    where: str,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    skipped: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Loads many images in parallel and brings them to one shape.

    Args:
        ids: of the images, by split. None is empty.
        load: gives an image by its id: uint8 (h, w, 1 or 3). If it raises
            `UnusableImage`, the image is named in the error.
        where, image_size, resizing: as for `read_images`.
        skipped: gets the reason, by id, of each image that cannot be used, which is
            left out then; None refuses them.

    Returns:
        By split, uint8 (n, h, w, c): c is 1 if all images of all splits are gray,
        else 3.

    Raises:
        InputError: images that cannot be used, all in one sentence, unless they are
            skipped; none that can; or different sizes without an `image_size`.
    """
    names = [name for group in ids.values() for name in group]
    images, bad = _load_all(names, load, where, image_size)
    if len(bad) == len(names) or (bad and skipped is None):
        reasons = [f"{name} ({reason})" for name, reason in bad.items()]
        raise cannot_use(where, reasons, len(names))
    if skipped is not None:
        skipped |= bad
    height, width = images[0].shape[:2]
    if any(image.shape[:2] != (height, width) for image in images):
        assert image_size is not None, "_load_all has refused them"
        height = width = resizing.stored_side(image_size)
        # In place, so that no image is held twice.
        for i, image in enumerate(images):
            if image.shape[:2] != (height, width):
                images[i] = fit_square(image, image_size, resizing)
    shape = (height, width, max(image.shape[2] for image in images))
    # From the end: memory is freed as it is filled, and never held twice.
    counts = {split: sum(name not in bad for name in ids[split]) for split in ids}
    stacked = {split: _pop(images, counts[split], shape) for split in [*ids][::-1]}
    return {split: stacked[split] for split in ids}


def cannot_use(
    where: str,
    bad: Sequence[str],
    total: int,
    noun: str = "images",
    *,
    skippable: bool = True,
) -> InputError:
    """Returns the error, to be raised by the caller, for files that cannot be used.

    Args:
        where: the start of the sentence, such as "folder:scans".
        bad: a file with its reason in parentheses each.
        total: how many files there are.
        noun: what they are, in the plural.
        skippable: whether `Reading.on_error` can leave them out.
    """
    shown = ", ".join(bad[:UNUSABLE_SHOWN])
    more = (
        f", and {len(bad) - UNUSABLE_SHOWN:,} more" if len(bad) > UNUSABLE_SHOWN else ""
    )
    return InputError(
        f"{where}: {len(bad):,} of {total:,} {noun} cannot be used: {shown}{more}. "
        f"Replace or remove them{', or set on_error to skip' if skippable else ''}."
    )


def _load_all(
    names: Sequence[str],
    load: Callable[[str], np.ndarray],
    where: str,
    image_size: int | None,
) -> tuple[list[np.ndarray], dict[str, str]]:
    """Returns the images, and the reasons for those that cannot be used."""
    images: list[np.ndarray] = []
    bad: dict[str, str] = {}
    first = ""

    def attempt(name: str) -> np.ndarray | str:
        try:
            return load(name)
        except UnusableImage as error:
            return str(error)

    # Pillow decodes and resizes outside Python's lock; more threads only contend.
    pool = ThreadPoolExecutor(count_processors())
    try:
        with (
            warnings.catch_warnings(),
            progress(f"Decoding {where}", len(names), unit="images") as advance,
        ):
            # About unknown tags and large images, without the file's name.
            warnings.simplefilter("ignore")
            for name, result in zip(names, pool.map(attempt, names), strict=True):
                if isinstance(result, str):
                    bad[name] = result
                else:
                    images.append(result)
                    first = first or name
                    if image_size is None:
                        _check_size(result, images[0], (name, first), where)
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return images, bad


def _check_size(
    image: np.ndarray, first: np.ndarray, names: tuple[str, str], where: str
) -> None:
    if image.shape[:2] == first.shape[:2]:
        return
    (height, width), (first_height, first_width) = image.shape[:2], first.shape[:2]
    raise InputError(
        f"{where}: the images have different sizes ({names[1]} is {first_width} x "
        f"{first_height} pixels, {names[0]} {width} x {height}). Give image_size, the "
        "side of the square to bring them to."
    )


def _pop(
    images: list[np.ndarray], count: int, shape: tuple[int, int, int]
) -> np.ndarray:
    """Moves the last images of a list into an array."""
    stacked = np.empty((count, *shape), np.uint8)
    for i in reversed(range(count)):
        stacked[i] = images.pop()
    return stacked
