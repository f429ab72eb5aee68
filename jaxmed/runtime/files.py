"""Files that are either complete or not there, and hashes of what they hold."""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from jaxmed.errors import InputError, no_room

T = TypeVar("T")

# How the names of unfinished files begin: what a killed program leaves behind.
UNFINISHED = ".unfinished-"
# Attempts to remove a folder, a fifth of a second apart.
REMOVAL_ATTEMPTS = 10
# Files above this size (bytes) take seconds to read; and how much is read at once.
LARGE_FILE, CHUNK = 2**26, 2**20


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file so that it is either complete or not there.

    Yields a temporary path beside `path`, which takes its place at the end.

    If the block fails, the temporary file is removed and `path` stays as it was. Any
    number of processes may write the same path at a time; the last one wins, and a
    reader never sees half a file. The temporary name keeps the ending, by which
    libraries choose a format.

    Args:
        path: where the file will be; its folder is made.

    Raises:
        InputError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        try:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise write_error(path, error) from error
    except InputError:
        raise
    except Exception as error:
        # Not every library that writes a file says so by an OSError.
        if reason := no_room(error):
            raise write_error(path, reason) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a folder that is either complete or not there.

    Yields a temporary path beside `path`, which is renamed at the end.

    If the block fails, the temporary folder is removed.

    Args:
        path: where the folder will be.
        replace: whether one that is there already is removed at the end; else nothing
            is there yet.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        if replace and path.exists():
            remove_folder(path)
        temporary.rename(path)
    finally:
        _remove_all(path.parent, f"{temporary.name}*")


def _remove_all(folder: Path, pattern: str) -> None:
    """Remove files of a library whose threads may still be writing there."""
    for _ in range(REMOVAL_ATTEMPTS):
        left = list(folder.glob(pattern))
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        if not any(path.exists() for path in left):
            return
        time.sleep(0.2)


def remove_folder(path: Path) -> None:
    """Remove a folder, of which a program that is killed meanwhile leaves no half."""
    temporary = _temporary(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{path.name}")


def write_error(path: Path, why: OSError | str) -> InputError:
    """Return the error, to be raised by the caller, for a file that is refused."""
    reason = why if isinstance(why, str) else why.strerror
    return InputError(
        f"Cannot write {path}: {reason}. Results go to --out, downloads "
        "and converted weights to --cache or JAXMED_CACHE; choose another folder."
    )


def hash_file(path: Path, function: str = "sha256") -> str:
    """Return the hash of a file in hexadecimal; a large file shows progress.

    Args:
        path: of the file.
        function: a name that `hashlib` knows, such as "md5".

    Examples:
        >>> Path("a.txt").write_text("abc")
        3
        >>> hash_file(Path("a.txt"))[:16]
        'ba7816bf8f01cfea'
    """
    from jaxmed.runtime.progress import progress

    digest = hashlib.new(function, usedforsecurity=False)
    size = path.stat().st_size
    bar = progress(f"Checking {path.name}", -(-size // CHUNK), unit="MiB")
    with (
        path.open("rb") as file,
        bar if size > LARGE_FILE else nullcontext(lambda _: None) as advance,
    ):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(1)
    return digest.hexdigest()


def hash_arrays(arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of names, types, shapes and bits of arrays."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def hash_64(content: "bytes | memoryview") -> int:
    """Return 64 bits that tell contents apart, of which few are compared."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of a killed program in a folder and below it."""
    for path in list(folder.rglob(f"{UNFINISHED}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_readable(folder: Path, depth: int = 0) -> None:
    """Check that a folder, and those below it, may be listed; `glob` would not tell.

    Args:
        folder: exists.
        depth: how many levels below it are looked into too.

    Raises:
        InputError: this user may not.
    """
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be looked into: {error.strerror}."
        ) from error
    for folder in inner if depth else ():
        check_readable(folder, depth - 1)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every reader accepts: no NaN."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path, json_type: type[T] = dict) -> T:
    """Read a file that `write_json` wrote.

    Raises:
        InputError: it cannot be read, or does not hold a `json_type`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}. Restore it.") from error
    if not isinstance(content, json_type):
        raise InputError(f"{path} should hold a JSON {json_type.__name__}. Restore it.")
    return content
