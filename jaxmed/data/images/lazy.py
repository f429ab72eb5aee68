"""Lazy images, decoded from their files when they are indexed."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.images.decode import decode_square
from jaxmed.data.images.picture import UnusableImage
from jaxmed.data.images.resizing import Resizing
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors

# Of what tells one image from another.
KEY_BYTES = 16
SKIPPING = "Replace or remove them; --data.on-error skip leaves such files out."


@dataclass(frozen=True, kw_only=True, eq=False)
class LazyImages:
    """Stands for uint8 (n, h, w, c), as an array does, and decodes what is indexed.

    `images[rows]`, with a slice, a mask or int (m,), is a NumPy array of those
    images, decoded there and then by several threads; `images[i]` is one image. All
    are squares of one size, small ones enlarged, and RGB unless all files are gray.
    It can be pickled, at some 100 bytes for an image.

    Attributes:
        root: the folder of the files.
        files: paths below it, with forward slashes.
        image_size: side in pixels that the network gets.
        resizing: how images become squares, and of which size for it.
        channels: 1 or 3.
        digests: uint64 (n,), of the files' sizes and beginnings.
        scales: int8 (n,), of the files' `FileHeader`.
        window: of images of more than 8 bits; none of them can be decoded as long as
            it is pending.
        source: the start of a sentence, such as "folder:scans".
    """

    root: Path
    files: tuple[str, ...]
    image_size: int
    resizing: Resizing
    channels: int
    digests: np.ndarray
    scales: np.ndarray
    source: str
    window: Window = STORED_BITS

    @property
    def shape(self) -> tuple[int, int, int, int]:
        side = self.resizing.stored_side(self.image_size)
        return len(self.files), side, side, self.channels

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of the array that this stands for."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self))[key]
        unique, positions = np.unique(rows, return_inverse=True)
        if len(unique) == rows.size:
            return self._decode(rows.ravel()).reshape(*rows.shape, *self.shape[1:])
        # The last batch of an epoch is padded with one image over and over.
        return self._decode(unique)[positions.reshape(rows.shape)]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise InputError(
            f"{self.source}: the {len(self):,} images are decoded when they are asked "
            f"for, and all of them at once would be {self.nbytes / 1e9:.3g} GB. Take "
            "some, as in images[0:32], or give a larger memory budget."
        )

    @property
    def keys(self) -> tuple[bytes, ...]:
        """`KEY_BYTES` for each image, see `jaxmed.data.dataset.Split.image_keys`."""
        shared = (self.image_size, self.resizing, self.channels, self.window)

        def key(file: str, scale: int) -> bytes:
            path = (self.root / file).resolve()
            try:
                status = path.stat()
                version = (status.st_size, status.st_mtime_ns)
            except OSError:  # decoding it says what is wrong
                version = ()
            text = repr((*shared, str(path), scale, *version)).encode()
            return hashlib.blake2b(text, digest_size=KEY_BYTES).digest()

        return tuple(map(key, self.files, self.scales.tolist()))

    def take(self, rows: np.ndarray) -> "LazyImages":
        """Returns some images, int (m,), in that order; nothing is decoded."""
        files = tuple(self.files[i] for i in rows)
        return replace(
            self, files=files, digests=self.digests[rows], scales=self.scales[rows]
        )

    def _decode(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        bad: list[str] = []
        # Shared by the threads, each of which takes the next image.
        todo = iter(enumerate(rows.tolist()))

        def square(path: Path) -> np.ndarray:
            return decode_square(
                path, self.image_size, self.resizing, self.channels, self.window
            )

        def work(todo: Iterator[tuple[int, int]]) -> None:
            for index, row in todo:
                try:
                    path = self.root / self.files[row]
                    images[index] = square(path)
                except UnusableImage as error:
                    bad.append(f"{self.files[row]} ({error})")

        threads = min(count_processors(), len(rows))
        if threads < 2:
            work(todo)
        else:
            # Pillow decodes and resizes outside Python's lock.
            list(_decoders().map(work, [todo] * threads))
        if bad:
            raise InputError(
                f"{self.source}: images that cannot be used: {', '.join(sorted(bad))}. "
                f"{SKIPPING}"
            )
        return images


ImageArray = np.ndarray | LazyImages
"""Images of a split: an array in memory, or one that is decoded as it is needed."""


def join_images(parts: Sequence[ImageArray]) -> ImageArray:
    """Joins images of one shape: arrays, or lazy ones of one folder."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    lazy = [part for part in parts if isinstance(part, LazyImages)]
    assert len(lazy) == len(parts), "a source gives images of one kind"
    return replace(
        first,
        files=tuple(name for part in lazy for name in part.files),
        digests=np.concatenate([part.digests for part in lazy]),
        scales=np.concatenate([part.scales for part in lazy]),
    )


@cache
def _decoders() -> ThreadPoolExecutor:
    """Return the threads that decode, which live as long as the program."""
    return ThreadPoolExecutor(count_processors(), "decoder")
