"""Index of image headers, read once and kept in the cache folder.

An index holds, for each file, a key (of its name, size and time of change), so that a
file that changed is looked at again. It holds no names, and no reasons: files that
could not be used are looked at every time.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxmed.data.images.decode import decode, read_header
from jaxmed.data.images.picture import UnusableImage
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.errors import InputError
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.files import atomic_write, hash_64
from jaxmed.runtime.memory import count_processors
from jaxmed.runtime.progress import progress

# How much of a file's beginning tells it from others.
HEAD = 2**14
# Files that a thread looks at in one go; and how many threads, which wait for disks.
CHUNK, READERS = 256, 8
ENTRY = np.dtype(
    [
        ("key", np.uint64),
        ("digest", np.uint64),
        ("width", np.int32),
        ("height", np.int32),
        ("channels", np.int8),
        ("scale", np.int8),
        ("state", np.int8),
    ]
)
FAILED, UNKNOWN, LOOKED_AT, DECODED = -1, 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Index:
    """What n files say.

    Attributes:
        entries: `ENTRY` (n,), in the order of the files.
        bad: the reason, by place, of each file that cannot be used.
    """

    entries: np.ndarray
    bad: dict[int, str]


def read_index(
    root: Path,
    files: Sequence[str],
    *,
    where: str,
    window: Window = STORED_BITS,
    verify: bool = False,
    cache: Path | None = None,
) -> Index:
    """Looks at files, as far as that has not been done before.

    Args:
        root: the folder that paths start from.
        files: paths below `root`.
        where: said with the progress, such as "folder:scans".
        window: of images of more than 8 bits; its limits do not matter.
        verify: decode each file once, to find those that are damaged further on.
        cache: the folder for the index; None means $JAXMED_CACHE or ~/.cache/jaxmed.

    Returns:
        The index. Damage that was found once is in it, also without `verify`.
    """
    bad: dict[int, str] = {}
    entries = np.zeros(len(files), ENTRY)
    entries["key"] = _keys(root, files, bad)
    path = _index_path(root, cache, window)
    before = _fill(entries, _load(path))
    again = entries["state"] == FAILED
    exists = entries["key"] != 0
    _look(
        root,
        files,
        np.flatnonzero(exists & (entries["state"] < LOOKED_AT)),
        entries,
        bad,
        f"Reading headers of {where}",
    )
    doubtful = (entries["state"] == LOOKED_AT) & (verify | again)
    _decode(
        root,
        files,
        np.flatnonzero(doubtful),
        entries,
        bad,
        window,
        f"Verifying {where}",
    )
    entries["state"][[index for index in bad if exists[index]]] = FAILED
    if not np.array_equal(entries["state"], before):
        # Without a place to keep it, the next run looks again.
        with suppress(InputError), atomic_write(path) as temporary:
            np.save(temporary, entries[exists])
    return Index(entries=entries, bad=dict(sorted(bad.items())))


def _keys(root: Path, files: Sequence[str], bad: dict[int, str]) -> list[int]:
    """Returns a number for each file as it is now; 0 where there is none."""
    keys = []
    for index, name in enumerate(files):
        try:
            status = os.stat(os.path.join(root, name))
        except OSError as error:
            bad[index] = str(error.strerror)
            keys.append(0)
        else:
            text = f"{status.st_size} {status.st_mtime_ns} {name}"
            keys.append(hash_64(text.encode()))
    return keys


def _index_path(root: Path, cache: Path | None, window: Window) -> Path:
    # What a window can show may differ with its kind.
    setting = "range" if window.has_range else window.setting
    identity = os.fsencode(f"{setting} {root.resolve()}")
    return cache_folder(cache) / "indexes" / f"{hash_64(identity):016x}.npy"


def _load(path: Path) -> np.ndarray:
    """Returns the entries that were kept, by key; none if the file is damaged."""
    try:
        entries = np.load(path)
        if entries.dtype == ENTRY and entries.ndim == 1:
            return entries[np.argsort(entries["key"])]
    except (OSError, ValueError, EOFError):
        # Not there, cut off, or of another version: looking again makes it good.
        pass
    return np.empty(0, ENTRY)


def _fill(entries: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Enters what is known, and returns the states then."""
    if len(known):
        keys = entries["key"]
        indices = np.minimum(np.searchsorted(known["key"], keys), len(known) - 1)
        same = (known["key"][indices] == keys) & (keys != 0)
        entries[same] = known[indices[same]]
    return entries["state"].copy()


def _look(
    root: Path,
    files: Sequence[str],
    indices: np.ndarray,
    entries: np.ndarray,
    bad: dict[int, str],
    title: str,
) -> None:
    """Reads the headers of some files."""

    def look(index: int) -> None:
        with open(root / files[index], "rb") as file:
            head = file.read(HEAD)
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            entries["digest"][index] = hash_64(head + str(size).encode())
            header = read_header(file, files[index])
        entries["width"][index], entries["height"][index] = header.width, header.height
        entries["channels"][index] = header.channels
        entries["scale"][index] = header.scale
        entries["state"][index] = LOOKED_AT

    _attempt(look, indices, bad, title, READERS)


def _decode(
    root: Path,
    files: Sequence[str],
    indices: np.ndarray,
    entries: np.ndarray,
    bad: dict[int, str],
    window: Window,
    title: str,
) -> None:
    """Decodes some files."""
    shown = replace(window, limits=(0.0, 1.0)) if window.pending else window

    def decode_once(index: int) -> None:
        decode(root / files[index], window=shown)
        entries["state"][index] = DECODED

    _attempt(decode_once, indices, bad, title, count_processors())


def _attempt(
    work: Callable[[int], None],
    indices: np.ndarray,
    bad: dict[int, str],
    title: str,
    threads: int,
) -> None:
    """Does some work on files in parallel, and notes the reasons where it fails."""

    def attempt(chunk: list[int]) -> int:
        for index in chunk:
            try:
                work(index)
            except UnusableImage as error:
                bad[index] = str(error)
            except OSError as error:
                bad[index] = str(error.strerror)
        return len(chunk)

    if not len(indices):
        return
    pool = ThreadPoolExecutor(threads)
    try:
        with (
            warnings.catch_warnings(),
            progress(title, len(indices), unit="files") as advance,
        ):
            # About unknown tags and large images, without the file's name.
            warnings.simplefilter("ignore")
            for count in pool.map(attempt, _cut(indices.tolist())):
                advance(count)
    finally:
        pool.shutdown(cancel_futures=True)


def _cut(indices: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]
