"""One process at a time: against a real second one, killed ones, and other hosts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxmed.errors import InputError
from jaxmed.runtime import locks
from jaxmed.runtime.locks import HOLDER, LOCK, holder_of, locked

HOLD = """
import sys, time
from pathlib import Path
from jaxmed.runtime.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A second process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_lock(tmp_path, other):
    host = os.uname().nodename
    with pytest.raises(InputError, match=f"in use by process {other.pid} on {host} "):
        locked(tmp_path).__enter__()
    assert f"process {other.pid} on {host}" in holder_of(tmp_path)
    # The one who was refused has changed nothing.
    assert json.loads((tmp_path / HOLDER).read_text())["process"] == other.pid
    assert other.poll() is None


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / HOLDER).exists()
    assert holder_of(tmp_path) is None
    began = time.monotonic()
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()
    assert time.monotonic() - began < locks.BEAT


def test_a_lock_ends_with_its_block_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "new"):
            raise KeyError
        assert not list((tmp_path / "new").iterdir())


def from_another_host(folder: Path) -> Path:
    holder = folder / HOLDER
    said = {"host": "node7", "process": 12, "since": "2026-01-01 10:00:00"}
    holder.write_text(json.dumps(said))
    return holder


def test_another_host_that_shows_no_life_is_stale(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "WATCH", 0.5)
    monkeypatch.setattr(locks, "BEAT", 0.2)
    holder = from_another_host(tmp_path)
    with locked(tmp_path):
        assert json.loads(holder.read_text())["process"] == os.getpid()
    assert "left in use by process 12 on node7" in capsys.readouterr().err


def test_another_host_that_is_alive_is_not(tmp_path, monkeypatch):
    """As on a shared file system whose locks do not reach other hosts."""
    monkeypatch.setattr(locks, "WATCH", 5.0)
    monkeypatch.setattr(locks, "BEAT", 0.2)
    holder = from_another_host(tmp_path)
    ended = threading.Event()
    alive = threading.Thread(target=locks._touch, args=(tmp_path, ended))
    alive.start()
    try:
        with pytest.raises(InputError, match="in use by process 12 on node7") as raised:
            locked(tmp_path).__enter__()
    finally:
        ended.set()
        alive.join()
    assert f"delete {LOCK} and {HOLDER} there" in str(raised.value)
    assert json.loads(holder.read_text())["host"] == "node7"


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.05)
    with locked(tmp_path):
        before = (tmp_path / HOLDER).stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / HOLDER).stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        locked(tmp_path / "file" / "run").__enter__()
