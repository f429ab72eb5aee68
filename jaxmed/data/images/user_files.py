"""Image files that a user names: discovery, and decoding as in training."""

import glob
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmed.data.images.decode import decode, fit_square
from jaxmed.data.images.discovery import Search, is_rubbish, why_no_image
from jaxmed.data.images.picture import UnusableImage
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.runtime.memory import count_processors

# Batches that are being decoded while one is predicted.
AHEAD = 2


class UserFile(NamedTuple):
    """An image that the user named.

    Attributes:
        name: its path, as far as it was given as it was given.
        pixels: uint8 (h, w, 1 or 3), or None.
        reason: why there are none.
    """

    name: str
    pixels: np.ndarray | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How image files become what a network was trained on.

    Attributes:
        image_size: side in pixels that the network gets.
        resizing: how images become squares of it.
        window: which gray values of more than 8 bits are black and white.
        image_shape: height and width that images had in memory, before they were
            resized on the device; None if not known: squares.
    """

    image_size: int
    resizing: Resizing = SQUASH
    window: Window = STORED_BITS
    image_shape: tuple[int, int] | None = None

    def __call__(self, path: Path) -> np.ndarray:
        """Decodes a file of any kind.

        Images of one size that is not too large are trained on as they are, and
        resized on the device; all others are squares by then.

        Returns:
            uint8 (h, w, 1), or (h, w, 3), RGB.

        Raises:
            UnusableImage: see `jaxmed.data.images.decode.decode`.
        """
        return self.fit(decode(path, window=self.window))

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """Resizes decoded pixels where training had them resized."""
        side = self.resizing.stored_side(self.image_size)
        if pixels.shape[:2] in ((side, side), self.image_shape):
            return pixels
        return fit_square(pixels, self.image_size, self.resizing)


def find_user_files(words: Sequence[str], left_out: dict[str, str]) -> list[UserFile]:
    """Finds the image files that words name, in the words' order.

    Args:
        words: files, folders (with all below them, in sorted order, as for training)
            and patterns with *, ** and ? for both.
        left_out: gets the reason, by name, why a file in a folder, or one that a
            pattern matches, is no image.

    Returns:
        Names; those of which it is known already that they are not to be used, such as
        a folder without images, with the reason.
    """
    files: list[UserFile] = []
    for word in words:
        if os.path.exists(word) or not glob.has_magic(word):
            files += _below(word, left_out) if os.path.isdir(word) else [UserFile(word)]
            continue
        matches = sorted(glob.glob(word, recursive=True))
        images = [
            file
            for match in matches
            for file in (
                _below(match, left_out, required=False)
                if os.path.isdir(match)
                else _matched(match, left_out)
            )
        ]
        # With **, a folder matches and so do the files in it.
        unique = list(dict.fromkeys(images))
        files += unique or [UserFile(word, None, "no image file matches the pattern")]
    return files


def decode_ahead(
    files: Sequence[UserFile], decoding: Decoding, batch_size: int
) -> Iterator[list[UserFile]]:
    """Decodes images in threads, a few batches ahead of what is taken.

    Args:
        files: see `find_user_files`.
        decoding: how.
        batch_size: images to yield at a time.

    Yields:
        Batches in order, decoded, or with the reason why not. No more than `AHEAD`
        and the one yielded are in memory.
    """

    def attempt(file: UserFile) -> UserFile:
        if file.reason is not None:
            return file
        try:
            return UserFile(file.name, decoding(Path(file.name)))
        except UnusableImage as error:
            return UserFile(file.name, None, str(error))

    waiting: deque[list[Future[UserFile]]] = deque()
    todo = iter(files)
    # Pillow decodes and resizes outside Python's lock.
    pool = ThreadPoolExecutor(count_processors())
    try:
        with warnings.catch_warnings():
            # About unknown tags and large images, without the file's name.
            warnings.simplefilter("ignore")
            while True:
                while len(waiting) <= AHEAD and (batch := [*islice(todo, batch_size)]):
                    waiting.append([pool.submit(attempt, file) for file in batch])
                if not waiting:
                    return
                yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _below(
    folder: str, left_out: dict[str, str], *, required: bool = True
) -> list[UserFile]:
    search = Search()
    base = folder.rstrip("/") or folder
    files = [UserFile(name) for name in search.below(Path(folder), base)]
    files += [UserFile(name, None, reason) for name, reason in search.bad.items()]
    left_out |= search.left_out
    if not files and required:
        return [UserFile(folder, None, "no image files in the folder")]
    return files


def _matched(name: str, left_out: dict[str, str]) -> list[UserFile]:
    """Returns a file that a pattern matches, if it is an image."""
    if is_rubbish(os.path.basename(name)):
        return []
    if reason := why_no_image(Path(name)):
        left_out[name] = reason
        return []
    return [UserFile(name)]
