"""Rows of arrays on disk, by key: bounded in size, shared by any number of processes.

A file holds the rows that were written at a time, and their keys. It gets its name when
it is complete, so that none is read that is half written; its checksum is compared when
it is read, and what is damaged counts as not there. The files that were not used for
the longest time are removed first.
"""

import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from jaxmed.errors import InputError
from jaxmed.runtime.files import UNFINISHED, atomic_write, hash_64

# Bytes that are read at a time.
BLOCK = 2**24
# Seconds after which an unfinished file is what a killed program has left.
ABANDONED = 86_400


class RowStore:
    """Rows on disk in groups, whose rows are alike in shape and type.

    Args:
        folder: made when something is written.
        limit: bytes that all files may take.

    Examples:
        >>> store = RowStore(Path("rows"), limit=10**6)
        >>> store.write("squares", [b"two", b"ten"], np.array([[4.0], [100.0]]))
        >>> rows = np.zeros((2, 1))
        >>> store.read("squares", [b"ten", b"six"], rows).tolist()
        [True, False]
        >>> rows.tolist()
        [[100.0], [0.0]]
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = Path(folder), limit

    def read(self, group: str, keys: Sequence[bytes], rows: np.ndarray) -> np.ndarray:
        """Fill in the rows that are on disk.

        Args:
            group: a name that a folder can have.
            keys: of the rows, all of one length.
            rows: (n, ...), contiguous; those that are not on disk keep no meaning.

        Returns:
            bool (n,): which rows were filled in.
        """
        filled = np.zeros(len(keys), bool)
        paths: list[Path] = []
        # A folder that this user may not enter is as good as none.
        with suppress(OSError):
            paths = sorted((self.folder / group).glob("*.npz"))
        for path in paths:
            if filled.all():
                break
            # Damaged, of another shape, or removed by another process meanwhile:
            # zipfile and NumPy raise whatever they stumble over.
            with suppress(Exception):
                filled[_read_file(path, keys, filled, rows)] = True
                os.utime(path)
        return filled

    def write(self, group: str, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Write rows, if they fit; a disk that refuses them is as good as none.

        Args:
            group, keys: see `read`.
            rows: (n, ...), contiguous.
        """
        if rows.nbytes > self.limit:
            return
        name = f"{hash_64(b''.join(keys)):016x}.npz"
        with suppress(InputError, OSError):
            self._make_room(rows.nbytes)
            with atomic_write(self.folder / group / name) as part:
                # The type of rows may be one that NumPy's files do not know.
                raw = rows.reshape(len(rows), -1).view(np.uint8)
                packed = np.frombuffer(b"".join(keys), np.uint8)
                packed = packed.reshape(len(keys), -1)
                np.savez(part, keys=packed, rows=raw)

    def _make_room(self, size: int) -> None:
        """Remove the files that were used the longest time ago, until `size` fits."""
        files = [(path, path.stat()) for path in self.folder.glob("*/*.npz")]
        files.sort(key=lambda each: each[1].st_mtime, reverse=True)
        total = size
        for path, status in files:
            total += status.st_size
            if total > self.limit:
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f"*/{UNFINISHED}*"):
            if path.stat().st_mtime < time.time() - ABANDONED:
                path.unlink(missing_ok=True)


def _read_file(
    path: Path, keys: Sequence[bytes], filled: np.ndarray, rows: np.ndarray
) -> list[int]:
    """Read the rows of a file that are wanted and not filled in yet.

    Returns:
        Their places in `rows`, once the checksum of all that was read was compared.
    """
    with zipfile.ZipFile(path) as archive:
        with archive.open("keys.npy") as file:
            stored = [bytes(key) for key in np.lib.format.read_array(file)]
        index_of = {key: index for index, key in enumerate(keys) if not filled[index]}
        pairs = [(index_of[k], s) for s, k in enumerate(stored) if k in index_of]
        if not pairs:
            return []
        indices, sources = map(np.array, zip(*pairs, strict=True))
        flat = rows.reshape(len(rows), -1).view(np.uint8)
        with archive.open("rows.npy") as file:
            for start, block in _blocks(file, flat.shape[1]):
                inside = (sources >= start) & (sources < start + len(block))
                flat[indices[inside]] = block[sources[inside] - start]
    return indices.tolist()


def _blocks(file, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows of a .npy file, uint8 (n, width), and where they begin."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    assert (dtype, shape[1]) == (np.uint8, width), "a group has rows of one size"
    many = max(1, BLOCK // width)
    for start in range(0, shape[0], many):
        count = min(many, shape[0] - start)
        block = np.frombuffer(file.read(count * width), np.uint8)
        yield start, block.reshape(count, width)
    # The checksum is compared at the end of the file.
    assert not file.read(1), "the header says how many rows there are"
