"""Fetching a file whose name carries the start of its hash."""

import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jaxmed.errors import InputError
from jaxmed.runtime.files import write_error
from jaxmed.runtime.progress import progress
from jaxmed_convert.checkpoints.read import hash_file

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
            raise write_error(self._whole, error) from error

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
            raise write_error(path, error) from error
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


TIMEOUT = 30.0
CHUNK = 1 << 16
MEGABYTE = 1_000_000
# How many times in a row nothing new may arrive before we give up, and the seconds
# until the next try, times their number so far.
TRIES = 5
PAUSE = 1.0
PARTIAL_CONTENT, BEYOND_THE_END = 206, 416
# After these answers a later try may get a better one.
BUSY = {408, 429, 500, 502, 503, 504}


def download(url: str, folder: Path) -> Path:
    """Returns the file at `url`, from `folder` if it is there already.

    torchvision's file names end in the first digits of the file's SHA-256, as in
    "resnet18-f37072fd.pth"; they are compared, also for a file that was put into the
    folder by hand. What has arrived is kept in a file of the same name and ".part":
    when the line is cut, and when the program is killed and run again, the download
    goes on from there. Several processes may ask for the same file at a time: one
    fetches it and the others wait.

    Args:
        url: ends in the file's name.
        folder: made if needed.

    Raises:
        InputError: no network, no such file, a line that is cut again and again, or
            other bytes than the name promises. The message says where to get the file
            and where to put it.
    """
    name = url.rpartition("/")[2]
    promised = promised_hash(name)
    path = folder / name
    advice = f"fetch {name} from {url} yourself and put it at {path}."
    with claim(path) as partial:
        if partial is None:
            again = f"Delete {path} and fetch it again from {url}."
            _check(path, name, promised, again)
            return path
        pieced = _fetch(url, partial, name, advice)
        if pieced and not hash_file(partial.path).startswith(promised):
            # The first piece may be of what the server had under this name before.
            print(f"The pieces of {name} do not fit. Starting over.", file=sys.stderr)
            partial.clear()
            _fetch(url, partial, name, advice)
        try:
            _check(partial.path, name, promised, f"Or {advice}")
        except InputError:
            partial.remove()
            raise
        partial.finish()
    return path


def promised_hash(name: str) -> str:
    """Returns the start of the SHA-256 that a file's name ends in.

    Raises:
        InputError: there is none.
    """
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if found is None:
        raise InputError(
            f"The file name {name} does not end in the start of its SHA-256, as in "
            "resnet18-f37072fd.pth, so what it holds cannot be checked."
        )
    return found[1]


def _check(path: Path, name: str, promised: str, advice: str) -> None:
    found = hash_file(path)
    if not found.startswith(promised):
        raise InputError(
            f"The bytes of {name} are not the expected ones: its SHA-256 starts with "
            f"{found[: len(promised)]} instead of {promised}. {advice}"
        )


class _Cut(Exception):
    """The line was cut. What has arrived is good."""


def _fetch(url: str, partial: Partial, name: str, advice: str) -> bool:
    """Completes the part; tells whether it is of more than one answer."""
    failures, etag = 0, None
    while True:
        before = partial.size()
        try:
            with _ask(url, before, etag) as response:
                etag = response.headers.get("ETag", "")
                _receive(response, partial, name)
                return response.status == PARTIAL_CONTENT
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == BEYOND_THE_END and before:
                return True
            reason = f"the server answered {error.code} {error.reason}"
            again = error.code in BUSY
        except _Cut as cut:
            reason, again = cut, True
        except (OSError, http.client.HTTPException) as error:
            # No line at all is for the user to see to, unless there just was one.
            reason, again = getattr(error, "reason", error), etag is not None
        failures = 1 if partial.size() > before else failures + 1
        if not again or failures == TRIES:
            raise _failed(name, reason, partial.size(), advice)
        print(f"Downloading {name}: {reason}. Trying again.", file=sys.stderr)
        time.sleep(PAUSE * failures)


def _failed(name: str, reason: object, kept: int, advice: str) -> InputError:
    if kept:
        advice = f"The first {kept:,} bytes are kept: try again later, or {advice}"
    else:
        advice = advice[0].upper() + advice[1:]
    return InputError(f"Cannot download {name}: {reason}. {advice}")


def _ask(url: str, start: int, etag: str | None) -> http.client.HTTPResponse:
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        # A weak tag does not promise equal bytes; then the hash alone decides.
        if etag and not etag.startswith("W/"):
            request.add_header("If-Range", etag)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _receive(response: http.client.HTTPResponse, partial: Partial, name: str) -> None:
    start = partial.size()
    sent = response.headers.get("Content-Range", "")
    if response.status != PARTIAL_CONTENT:
        # The server sends everything, for it cannot do else or has a new file.
        partial.clear()
        start = 0
    elif not sent.startswith(f"bytes {start}-"):
        partial.clear()
        raise _Cut(f"the server sent {sent or 'a part'} instead of bytes {start}-")
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else 0
    with progress(f"Downloading {name}", -(-total // MEGABYTE), unit="MB") as advance:
        advance(start // MEGABYTE)
        while chunk := _read(response):
            before = partial.size()
            partial.append(chunk)
            advance(partial.size() // MEGABYTE - before // MEGABYTE)
        size = partial.size()
        if total and size != total:
            raise _Cut(f"the line was cut after {size:,} of {total:,} bytes")
        advance(-(-size // MEGABYTE) - size // MEGABYTE)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        # Unlike read, it does not lose what came before the line was cut.
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the line was cut ({error})") from error
