"""Whole files and folders, or none."""

from pathlib import Path

import pytest

from jaxmed.errors import InputError
from jaxmed.runtime.files import (
    atomic_folder,
    atomic_write,
    remove_folder,
    remove_unfinished,
)


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"1234")
        assert not path.exists()
    assert path.read_bytes() == b"1234"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_block_leaves_everything_as_it_was(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as first:
        first.write_bytes(b"first")
        with atomic_write(path) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(InputError, match=r"Cannot write .*file/cache.*JAXMED_CACHE"),
        atomic_write(tmp_path / "file" / "cache" / "a.bin"),
    ):
        pass


def test_what_a_killed_program_left_is_removed(tmp_path):
    with atomic_write(tmp_path / "cams" / "0.png") as temporary:
        left = temporary.with_name(temporary.name + ".copy")
        left.write_bytes(b"half")
    (tmp_path / "kept.txt").write_text("kept")
    remove_unfinished(tmp_path)
    assert not left.exists()
    assert (tmp_path / "kept.txt").exists()
    assert (tmp_path / "cams" / "0.png").exists()


def test_a_full_disk_is_a_sentence(tmp_path):
    path, full = tmp_path / "a.csv", Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(InputError, match=r"Cannot write .*a\.csv: No space left on dev"),
        atomic_write(path),
    ):
        full.write_text("1234")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_when_the_block_ends_and_goes_at_once(tmp_path):
    folder = tmp_path / "new"
    with atomic_folder(folder) as temporary:
        (temporary / "inner").mkdir(parents=True)
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["inner"]
    remove_folder(folder)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def write_half():
        with atomic_folder(tmp_path / "new") as temporary:
            temporary.mkdir()
            # A library's own temporary folder.
            temporary.with_name(f"{temporary.name}.tmp").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert not list(tmp_path.iterdir())


def test_folders_of_a_killed_program_are_removed(tmp_path):
    left = tmp_path / "run" / ".unfinished-01234567-3" / "weights"
    left.mkdir(parents=True)
    (left / ".unfinished-89abcdef-x").touch()
    (tmp_path / "run" / "3").mkdir()
    remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["3"]
