"""Locks on folders that one process at a time may write to.

The operating system holds the lock, and frees it however the process ends. Beside it a
file names the process, for people. Not every shared file system carries locks to other
hosts, so the process also touches that file at intervals: where another host's name is
in it, whether it is touched tells whether that process is alive.
"""

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError
from jaxmed.runtime.files import write_error, write_text

LOCK, HOLDER = ".lock", ".locked_by.json"
# Seconds between two touches of the holder's file, and how long one from another host
# is watched; some file systems tell others late.
BEAT, WATCH = 5.0, 30.0
# A file system without locks: the touches alone have to do.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that lock the folder out of it.

    Args:
        folder: made if need be; its files `LOCK` and `HOLDER` are ours.

    Raises:
        InputError: another process holds the lock, or the folder cannot be written to.
    """
    folder = Path(folder)
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            by_system = _lock(folder, held)
        except OSError as error:
            raise write_error(folder / LOCK, error) from error
        if not by_system:
            raise _in_use(folder, _read(folder))
        # While it is held; filelock does not take one that was removed for the lock.
        held.callback(_remove, folder / LOCK)
        holder = _read(folder)
        if holder and holder.get("host") != socket.gethostname():
            _watch(folder, holder)
        write_text(folder / HOLDER, json.dumps(_this_process()) + "\n")
        held.callback(_remove, folder / HOLDER)
        ended = threading.Event()
        held.callback(ended.set)
        threading.Thread(target=_touch, args=(folder, ended), daemon=True).start()
        yield


def holder_of(folder: Path) -> str | None:
    """Returns which process holds a folder's lock, in words; None if none does."""
    holder = _read(folder)
    if holder is None:
        return None
    with ExitStack() as held:
        try:
            free = _lock(folder, held)
        except OSError:  # of a folder that may only be read
            free = holder.get("host") != socket.gethostname()
    return None if free else _describe(holder)


def _lock(folder: Path, held: ExitStack) -> bool:
    """Takes the system's lock until `held` is closed; False if another has it."""
    from filelock import FileLock, Timeout

    try:
        held.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        return False
    except NotImplementedError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _remove(path: Path) -> None:
    # Windows keeps what is open.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _watch(folder: Path, holder: dict[str, Any]) -> None:
    """Waits for a sign of life of a holder on another host.

    Raises:
        InputError: there is one.
    """
    print(
        f"{folder} was left in use by {_describe(holder)}. Looking for {WATCH:.0f} s "
        "whether it still is.",
        file=sys.stderr,
        flush=True,
    )
    before, began = _touched(folder), time.monotonic()
    while time.monotonic() - began < WATCH:
        time.sleep(BEAT / 5)
        now = _touched(folder)
        if now is None:
            return
        if now != before:
            raise _in_use(folder, holder)


def _touched(folder: Path) -> int | None:
    try:
        # Network file systems ask their server when a file is opened.
        with (folder / HOLDER).open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


def _touch(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            os.utime(folder / HOLDER)
        except OSError:  # Removed by hand, or the network is away.
            continue


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _describe(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    since = f"since {holder.get('since')}"
    return f"process {holder.get('process')} on {holder.get('host')} ({since})"


def _in_use(folder: Path, holder: dict[str, Any] | None) -> InputError:
    return InputError(
        f"{folder} is in use by {_describe(holder)}. Wait until that has ended, or "
        "stop it, or use another folder. If there is no such process, delete "
        f"{LOCK} and {HOLDER} there."
    )
