"""Rows on disk: found by key, whole or not at all, and no more than there is room."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmed.inference.row_store import RowStore

KEYS = [bytes([number]) * 16 for number in range(6)]
ROWS = np.arange(6 * 50, dtype=np.float32).reshape(6, 5, 10)


@pytest.fixture
def store(tmp_path):
    return RowStore(tmp_path / "rows", limit=10**6)


def read(store, keys, like=ROWS):
    rows = np.zeros((len(keys), *like.shape[1:]), like.dtype)
    filled = store.read("group", keys, rows)
    return filled.tolist(), rows


def test_rows_of_several_files_come_in_the_order_asked_for(store):
    store.write("group", KEYS[:2], ROWS[:2])
    store.write("group", KEYS[3:], ROWS[3:])
    filled, rows = read(store, KEYS[::-1])
    assert filled == [True, True, True, False, True, True]
    np.testing.assert_array_equal(rows[filled], ROWS[::-1][filled])
    assert not store.read("other", KEYS, np.empty_like(ROWS)).any()


def test_rows_of_any_type_and_many_blocks(store, monkeypatch):
    monkeypatch.setattr("jaxmed.inference.row_store.BLOCK", 250)
    half = ROWS.astype(jnp.bfloat16)
    store.write("group", KEYS, half)
    filled, rows = read(store, KEYS, half)
    assert all(filled)
    np.testing.assert_array_equal(rows, half)


@pytest.mark.parametrize("where", ["rows", "keys", "end"])
def test_a_damaged_file_counts_as_not_there(store, where):
    store.write("group", KEYS, ROWS)
    (path,) = store.folder.glob("*/*.npz")
    content = bytearray(path.read_bytes())
    if where == "end":
        content = content[: len(content) // 2]
    else:
        wanted = ROWS[3].tobytes() if where == "rows" else KEYS[4]
        content[content.index(wanted)] ^= 64
    path.write_bytes(content)
    assert not any(read(store, KEYS)[0])
    # And what is written again is read again.
    store.write("group", KEYS, ROWS)
    assert all(read(store, KEYS)[0])


def test_the_files_that_were_used_last_stay(store):
    def age(path, seconds):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))

    for number in range(3):
        before = set(store.folder.glob("*/*.npz"))
        store.write("group", KEYS[number : number + 1], ROWS[number : number + 1])
        (new,) = set(store.folder.glob("*/*.npz")) - before
        age(new, 3000 - 1000 * number)
    assert read(store, KEYS[:1])[0] == [True]
    size = max(path.stat().st_size for path in store.folder.glob("*/*.npz"))
    store.limit = 2 * size + ROWS[:1].nbytes
    # The second one was used the longest time ago, reading the first one counts.
    store.write("group", KEYS[3:4], ROWS[3:4])
    assert read(store, KEYS[:4])[0] == [True, False, True, True]


def test_what_does_not_fit_or_cannot_be_written_is_left_out(tmp_path):
    RowStore(tmp_path / "small", limit=10).write("group", KEYS, ROWS)
    (tmp_path / "file").touch()
    RowStore(tmp_path / "file", limit=10**6).write("group", KEYS, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


WRITER = """
import sys
import numpy as np
from jaxmed.inference.row_store import RowStore
store = RowStore(sys.argv[1], limit=20_000)
for number in range(60):
    key = bytes([number % 7]) * 16
    rows = np.full((1, 500), number % 7, np.float32)
    store.write("group", [key], rows)
    found = np.empty_like(rows)
    if store.read("group", [key], found)[0]:
        assert (found == number % 7).all()
"""


def test_processes_share_a_folder(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        for _ in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert not list(tmp_path.glob("*/.unfinished*"))
