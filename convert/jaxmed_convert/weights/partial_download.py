"""Files that arrive in pieces, each written by one process at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jaxmed.runtime.files import cannot_write

try:
    import fcntl
except ImportError:  # Windows, where two downloads of a file at a time spoil both
    fcntl = None


class Partial:
    """The first part of a file, beside it and called like it with ".part" behind.

    Attributes:
        path: of the part.
    """

    def __init__(self, path: Path, file: BinaryIO, whole: Path):
        self.path = path
        self._file = file
        self._whole = whole

    def size(self) -> int:
        """Returns how many bytes have arrived."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Adds bytes at the end; they are in the file when this returns.

        Raises:
            InputError: the disk is full or fails.
        """
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise cannot_write(self._whole, error) from error

    def clear(self) -> None:
        """Throws away what has arrived."""
        self._file.truncate(0)

    def remove(self) -> None:
        """Removes the part."""
        self._release_if_open_files_cannot_move()
        self.path.unlink()

    def finish(self) -> None:
        """Makes the part the whole file."""
        self._release_if_open_files_cannot_move()
        os.replace(self.path, self._whole)

    def _release_if_open_files_cannot_move(self) -> None:
        if os.name == "nt":
            self._file.close()


@contextmanager
def claim(path: Path) -> Iterator[Partial | None]:
    """Gives what there is of a file to this process alone, to be completed.

    If another process is completing it, this waits. The claim ends with the process,
    however it ends: there is no lock file that could stay behind.

    Args:
        path: where the whole file will be; its folder is made if needed.

    Yields:
        The part, which may be empty; None if the whole file is there.

    Raises:
        InputError: the folder cannot be made or written.
    """
    part = path.with_name(f"{path.name}.part")
    while not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that nothing is lost when the process is killed.
            file = part.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error
        with file:
            _lock(file, path.name)
            # While we waited the part may have become the whole file, or have gone.
            if _is_open_at(file, part):
                try:
                    if not path.exists():
                        yield Partial(part, file, path)
                        return
                finally:
                    if _is_open_at(file, part) and part.stat().st_size == 0:
                        part.unlink()
    yield None


def _lock(file: BinaryIO, name: str) -> None:
    if fcntl is None:
        return
    # Some network file systems have no locks. The hash is checked there all the same.
    with suppress(OSError):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process is fetching {name}; waiting.", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_open_at(file: BinaryIO, path: Path) -> bool:
    """Tells whether the open file is the one that is now found at the path."""
    if file.closed:
        return False
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
