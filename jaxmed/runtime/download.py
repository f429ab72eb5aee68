"""Downloads that are checked, resumed and shared by processes.

A download that is cut off is resumed where it ended, also by a later run: what has
arrived is kept beside the file under its name with ".part" behind. Of several processes
that want a file, one downloads it and the others wait. A file takes its place only when
its hash is the expected one.
"""

import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jaxmed.errors import InputError
from jaxmed.runtime.files import hash_file, write_error
from jaxmed.runtime.progress import progress

try:
    import fcntl
except ImportError:  # Windows, where two downloads of a file at a time spoil both
    fcntl = None

# Seconds without a byte after which a connection counts as cut.
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


def download(url: str, path: Path, checksum: str) -> Path:
    """Download a file unless it is there, and check its hash in both cases.

    Args:
        url: of the file.
        path: where it is kept; the folder is made. A file that was put there by hand
            is used.
        checksum: the hash function and the hexadecimal digest, or its first digits, as
            in "md5:0744692d530f8e62ec473284d019b0c7" and "sha256:f37072fd".

    Returns:
        `path`.

    Raises:
        InputError: no network, no such file, a connection that is cut again and again,
            or other bytes than expected. The message says where to get the file and
            where to put it.
    """
    job = _Job(url, path, *checksum.split(":"))
    advice = f"download {path.name} from {url} yourself and put it at {path}"
    with _claim(path) as part:
        if part is None:
            job.check(path, f"Delete {path} and download it again from {url}.")
            return path
        resumed = _fetch(job, part, advice)
        if resumed and not job.matches(part.path):
            # The first piece may be of what the server had under this name before.
            print(
                f"The pieces of {path.name} do not fit. Starting over.", file=sys.stderr
            )
            part.clear()
            _fetch(job, part, advice)
        try:
            job.check(part.path, f"Or {advice}.")
        except InputError:
            part.remove()
            raise
        part.finish()
    return path


class _Job(NamedTuple):
    """A file to download, and the hash that it must have."""

    url: str
    path: Path
    function: str
    digest: str

    def matches(self, path: Path) -> bool:
        return hash_file(path, self.function).startswith(self.digest)

    def check(self, path: Path, advice: str) -> None:
        """Raise an `InputError` unless what lies at `path` has the expected hash."""
        digest = hash_file(path, self.function)
        if digest.startswith(self.digest):
            return
        length = len(self.digest)
        verb = "is" if length == len(digest) else "starts with"
        name = {"md5": "MD5", "sha256": "SHA-256"}.get(self.function, self.function)
        raise InputError(
            f"{self.path.name} is damaged or another file than expected: its {name} "
            f"{verb} {digest[:length]} instead of {self.digest} "
            f"({path.stat().st_size:,} bytes). {advice}"
        )


class _Part:
    """The first part of a file, kept beside it.

    Attributes:
        path: of the part.
    """

    def __init__(self, path: Path, file: BinaryIO, whole: Path):
        self.path = path
        self._file = file
        self._whole = whole

    def size(self) -> int:
        """Return how many bytes have arrived."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Add bytes at the end; they are in the file when this returns.

        Raises:
            InputError: the disk is full or fails.
        """
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise write_error(self._whole, error) from error

    def clear(self) -> None:
        """Throw away what has arrived."""
        self._file.truncate(0)

    def remove(self) -> None:
        """Remove the part."""
        self._release_if_open_files_cannot_move()
        self.path.unlink()

    def finish(self) -> None:
        """Make the part the whole file."""
        self._release_if_open_files_cannot_move()
        os.replace(self.path, self._whole)

    def _release_if_open_files_cannot_move(self) -> None:
        if os.name == "nt":
            self._file.close()


@contextmanager
def _claim(path: Path) -> Iterator[_Part | None]:
    """Give what there is of a file to this process alone, to be completed.

    If another process is completing it, this waits. The claim ends with the process,
    however it ends: there is no lock file that could stay behind.

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
                        yield _Part(part, file, path)
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
            print(f"Another process is downloading {name}; waiting.", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_open_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether the open file is the one that is now found at the path."""
    if file.closed:
        return False
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class _ConnectionCut(Exception):
    """The connection was cut. What has arrived is good."""


def _fetch(job: _Job, part: _Part, advice: str) -> bool:
    """Complete the part; tell whether it is of more than one answer."""
    name = job.path.name
    failures, etag = 0, None
    while True:
        before = part.size()
        try:
            with _request(job.url, before, etag) as response:
                etag = response.headers.get("ETag", "")
                _receive(response, part, name)
                return response.status == PARTIAL_CONTENT
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == BEYOND_THE_END and before:
                return True
            reason = f"the server answered {error.code} {error.reason}"
            again = error.code in BUSY
        except _ConnectionCut as cut:
            reason, again = cut, True
        except (OSError, http.client.HTTPException) as error:
            # No network at all is for the user to see to, unless there just was one.
            reason, again = getattr(error, "reason", error), etag is not None
        failures = 1 if part.size() > before else failures + 1
        if not again or failures == TRIES:
            kept = part.size()
            hint = f"The first {kept:,} bytes are kept: try again later, or {advice}"
            hint = hint if kept else advice[0].upper() + advice[1:]
            raise InputError(f"Cannot download {name}: {reason}. {hint}.")
        print(f"Downloading {name}: {reason}. Trying again.", file=sys.stderr)
        time.sleep(PAUSE * failures)


def _request(url: str, start: int, etag: str | None) -> http.client.HTTPResponse:
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        # A weak tag does not promise equal bytes; then the hash alone decides.
        if etag and not etag.startswith("W/"):
            request.add_header("If-Range", etag)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _receive(response: http.client.HTTPResponse, part: _Part, name: str) -> None:
    start = part.size()
    sent = response.headers.get("Content-Range", "")
    if response.status != PARTIAL_CONTENT:
        # The server sends everything, for it cannot do else or has a new file.
        part.clear()
        start = 0
    elif not sent.startswith(f"bytes {start}-"):
        part.clear()
        raise _ConnectionCut(f"the server sent {sent or 'a part'}, not bytes {start}-")
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else 0
    with progress(f"Downloading {name}", -(-total // MEGABYTE), unit="MB") as advance:
        advance(start // MEGABYTE)
        while chunk := _read(response):
            before = part.size()
            part.append(chunk)
            advance(part.size() // MEGABYTE - before // MEGABYTE)
        size = part.size()
        if total and size != total:
            raise _ConnectionCut(
                f"the connection was cut after {size:,} of {total:,} bytes"
            )
        advance(-(-size // MEGABYTE) - size // MEGABYTE)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        # Unlike read, it does not lose what came before the connection was cut.
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionCut(f"the connection was cut ({error})") from error
