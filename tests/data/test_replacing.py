"""`replacing`: whole files or none."""

import pytest

from jaxmed.data.replacing import replacing
from jaxmed.errors import InputError


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.bin"
    with replacing(path) as file:
        file.write(b"1234")
        assert not path.exists()
    assert path.read_bytes() == b"1234"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_block_leaves_everything_as_it_was(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write_half():
        with replacing(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "a.bin"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(InputError, match=r"Cannot write .*file/cache.*JAXMED_CACHE"),
        replacing(tmp_path / "file" / "cache" / "a.bin"),
    ):
        pass
