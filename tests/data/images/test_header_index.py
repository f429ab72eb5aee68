"""The index of files: what it saves, and when it must not be believed."""

import os

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.images import header_index as module
from jaxmed.data.images.decode import decode, read_header
from jaxmed.data.images.header_index import HEAD, read_index


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def files(tmp_path):
    """A gray image, one in colors, and a cut-off one."""
    root = tmp_path / "scans"
    root.mkdir()
    Image.fromarray(noise(20, 30)).save(root / "a.png")
    Image.fromarray(noise(9, 8, 3)).save(root / "b.jpg")
    Image.fromarray(noise(64, 64, 3)).save(root / "c.png")
    content = (root / "c.png").read_bytes()
    (root / "c.png").write_bytes(content[: len(content) // 2])
    return root


@pytest.fixture
def look(files, tmp_path, monkeypatch):
    """Reads the index; returns it with the headers and the pixels that were read."""

    def look(verify=False, names=("a.png", "b.jpg", "c.png"), cache=tmp_path / "cache"):
        read: list[str] = []

        def header(file, path):
            read.append(os.path.basename(file.name))
            return read_header(file, path)

        def decoder(path, **options):
            read.append(f"pixels of {path.name}")
            return decode(path, **options)

        monkeypatch.setattr(module, "read_header", header)
        monkeypatch.setattr(module, "decode", decoder)
        found = read_index(files, names, where="x", verify=verify, cache=cache)
        return found, sorted(read)

    return look


def test_headers_are_read_once(look):
    found, read = look()
    assert read == ["a.png", "b.jpg", "c.png"]
    assert found.bad == {}
    assert found.entries["width"].tolist() == [30, 8, 64]
    assert found.entries["height"].tolist() == [20, 9, 64]
    assert found.entries["channels"].tolist() == [1, 3, 3]
    again, read = look()
    assert read == []
    np.testing.assert_array_equal(again.entries, found.entries)
    turned, read = look(names=("c.png", "a.png"))
    assert read == []
    np.testing.assert_array_equal(turned.entries, found.entries[[2, 0]])


def test_a_file_that_changed_is_looked_at_again(look, files):
    before, _ = look()
    Image.fromarray(noise(5, 6, 3)).save(files / "a.png")
    after, read = look()
    assert read == ["a.png"]
    assert after.entries["channels"].tolist() == [3, 3, 3]
    assert after.entries["digest"][0] != before.entries["digest"][0]
    # The same content at another time: looked at, and the same.
    os.utime(files / "b.jpg", ns=(1, 1))
    found, read = look()
    assert read == ["b.jpg"]
    assert found.entries["digest"].tolist() == after.entries["digest"].tolist()
    assert look(names=("a.png", "new.png"))[0].bad == {1: "No such file or directory"}


def test_a_digest_is_of_the_beginning_and_the_size(look, files):
    base = noise(HEAD + 100).tobytes()
    (files / "a.png").write_bytes(base)
    first = look()[0].entries["digest"][0]
    (files / "a.png").write_bytes(base[:-1] + b"x")
    assert look()[0].entries["digest"][0] == first
    (files / "a.png").write_bytes(base + b"x")
    assert look()[0].entries["digest"][0] != first
    (files / "a.png").write_bytes(b"x" + base[1:])
    assert look()[0].entries["digest"][0] != first


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"\x93NUMPY garbage"),
        lambda path: np.save(path, np.zeros(3)),
        lambda path: np.save(path, np.zeros((2, 2), [("key", np.uint64)])),
    ],
)
def test_a_damaged_index_is_made_again(look, tmp_path, spoil):
    found, _ = look()
    (path,) = (tmp_path / "cache" / "indexes").iterdir()
    spoil(path)
    again, read = look()
    assert read == ["a.png", "b.jpg", "c.png"]
    np.testing.assert_array_equal(again.entries, found.entries)
    assert look()[1] == []


def test_verification_decodes_once_and_what_fails_is_remembered(look, files):
    assert look()[0].bad == {}
    found, read = look(verify=True)
    assert read == ["pixels of a.png", "pixels of b.jpg", "pixels of c.png"]
    assert list(found.bad) == [2]
    assert found.bad[2].startswith("damaged or cut off")
    # What failed is looked at every time, also where nobody asks for verification.
    for verify in (True, False):
        again, read = look(verify=verify)
        assert again.bad == found.bad
        assert read == ["c.png", "pixels of c.png"]
    Image.fromarray(noise(64, 64, 3)).save(files / "c.png")
    assert look(verify=True)[0].bad == {}
    assert look(verify=True)[1] == []


def test_without_a_place_for_it_every_run_looks(look, tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        found, read = look(cache=tmp_path / "file" / "below")
        assert read == ["a.png", "b.jpg", "c.png"]
        assert found.bad == {}
