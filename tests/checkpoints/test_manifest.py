"""The manifest of a folder, which finds every file that is not as it was written."""

import hashlib
import json
import os
from errno import EACCES, ENOSPC

import numpy as np
import pytest

from jaxmed.checkpoints.manifest import (
    MANIFEST,
    check_room,
    find_damage,
    find_reason,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "inner" / "b").write_bytes(b"")
    write_manifest(tmp_path)
    return tmp_path


def test_it_holds_the_digest_of_every_file(folder):
    assert json.loads((folder / MANIFEST).read_text()) == {
        "a": hashlib.sha256(b"one").hexdigest(),
        "inner/b": hashlib.sha256(b"").hexdigest(),
    }
    assert find_damage(folder) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "a").write_bytes(b"onf"), "as it was written, a"),
        (lambda f: (f / "a").write_bytes(b"on"), "as it was written, a"),
        (lambda f: (f / "inner" / "b").unlink(), "lacks the file inner/b"),
        (lambda f: (f / MANIFEST).unlink(), f"lacks the file {MANIFEST}"),
        (lambda f: (f / MANIFEST).write_text("{"), f"written, {MANIFEST}"),
        (lambda f: (f / MANIFEST).write_text("[]"), f"written, {MANIFEST}"),
        (lambda f: (f / MANIFEST).write_bytes(b"\xff"), f"written, {MANIFEST}"),
    ],
)
def test_damage_is_found(folder, damage, words):
    damage(folder)
    assert str(find_damage(folder)).endswith(words)


def test_a_file_that_came_later_is_no_damage(folder):
    (folder / "later").write_bytes(b"two")
    assert find_damage(folder) is None


def test_what_the_system_said_is_found_below_other_errors():
    assert find_reason(OSError(ENOSPC, "No space")) == "No space"
    text = ValueError(f"ABORTED: ... [os_error_code='{EACCES}'] ...")
    assert find_reason(text) == os.strerror(EACCES)
    outer = RuntimeError("writing failed")
    outer.__cause__ = OSError(ENOSPC, "No space")
    assert find_reason(outer) == "No space"
    assert find_reason(RuntimeError("something else")) is None


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch):
    tree = {"weights": np.zeros(2**20, np.float32)}
    check_room(tmp_path, tree)
    usage = type("Usage", (), {"free": 2**22})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=os.strerror(ENOSPC)):
        check_room(tmp_path, tree)
