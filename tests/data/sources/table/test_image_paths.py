"""Paths as published: resolved where they have one meaning, else a sentence."""

from unicodedata import normalize

import pytest

from jaxmed.data.sources.table.image_paths import Resolver
from jaxmed.errors import InputError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cohort"


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def resolve(cells, *roots, ending=""):
    """Returns the paths, the reasons by row, and the notes."""
    bad: dict[int, str] = {}
    resolver = Resolver(roots=roots, ending=ending)
    return resolver.resolve(cells, bad), bad, resolver.notes()


@pytest.mark.parametrize(
    ("files", "cells", "paths"),
    [
        # As it is, and spelled otherwise.
        (["a/1.png"], ["a/1.png"], ["a/1.png"]),
        (["a/1.png"], ["./a//1.png"], ["a/1.png"]),
        (["a/1.png", "b/2.png"], ["b/../a/1.png"], ["a/1.png"]),
        (["a/1.png", "b/2.png"], ["a\\1.png", "b\\2.png"], ["a/1.png", "b/2.png"]),
        # Folders that all rows begin with and that are not here.
        (["t/1.png", "v/2.png"], ["S/t/1.png", "S/v/2.png"], ["t/1.png", "v/2.png"]),
        (["a/1.png", "a/2.png"], ["/x/a/1.png", "/x/a/2.png"], ["a/1.png", "a/2.png"]),
        (["1.png", "2.png"], ["D:\\x y\\1.png", "D:\\x y\\2.png"], ["1.png", "2.png"]),
        # Names without an ending, also with dots in them.
        (["1.jpg", "1.txt"], ["1"], ["1.jpg"]),
        (["1.2.840.dcm", "1.2.841.dcm"], ["1.2.840"], ["1.2.840.dcm"]),
        (["001.PNG"], ["001"], ["001.PNG"]),
        (["1", "1.png"], ["1"], ["1"]),
        # In several folders, of which masks are none.
        (["x/1.png", "y/z/2.png"], ["1.png", "2.png"], ["x/1.png", "y/z/2.png"]),
        (["x/1.png", "y/2.jpg"], ["1", "2"], ["x/1.png", "y/2.jpg"]),
        (["x/images/1.png", "x/masks/1.png"], ["1.png"], ["x/images/1.png"]),
        (["x/a/1.png", "x/b/1.png"], ["b/1.png"], ["x/b/1.png"]),
        (["x/1.png", ".x/1.png", "__MACOSX/1.png"], ["1.png"], ["x/1.png"]),
        # Another case, the same one first.
        (["IMG_1.JPG"], ["img_1.jpg"], ["IMG_1.JPG"]),
        (["x/A.png", "x/a.png"], ["A.png"], ["x/A.png"]),
    ],
)  # fmt: skip
def test_what_has_one_meaning_is_resolved(root, files, cells, paths):
    make(root, *files)
    found, bad, notes = resolve(cells, root)
    assert (found, bad) == (paths, {})
    # What is not below the folder as it stands is said.
    plain = all((root / cell).is_file() for cell in cells)
    assert bool(notes) == (not plain)


def test_the_notes_say_what_was_done(root):
    make(root, "images/1.png", "images/2.png")
    *_, notes = resolve(["1", "2"], root)
    assert notes == ["2 paths without an ending, found by name"]
    *_, notes = resolve(["/mnt/s/images/1.png", "/mnt/s/images/2.png"], root)
    assert notes == ["2 paths taken without their first /mnt/s/"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_forms_are_one_name(root, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = "Müller é.png"
    make(root, f"a/{normalize(form, name)}")
    found, bad, _ = resolve([f"a/{normalize(other, name)}"], root)
    assert (found, bad) == ([f"a/{normalize(form, name)}"], {})


def test_absolute_paths_are_below_the_folder_or_refused(root, tmp_path):
    make(root, "a/1.png", "2.png")
    make(tmp_path / "other", "2.png")
    cells = [f"{root}/a/1.png", "2.png"]
    assert resolve(cells, root)[:2] == (["a/1.png", "2.png"], {})
    # Not the file of the same name that lies here.
    found, bad, _ = resolve([f"{tmp_path}/other/2.png"], root)
    assert found == [""]
    assert "leads out of the folder of the images" in bad[0]
    assert "root=FOLDER" in bad[0]
    found, bad, _ = resolve([f"{tmp_path}/other/2.png", *cells[:1]], tmp_path)
    assert (found, bad) == (["other/2.png", "cohort/a/1.png"], {})


def test_several_folders(root, tmp_path):
    make(root, "part_1/1.jpg", "part_2/2.jpg", "part_3/1.jpg")
    roots = (root / "part_1", root / "part_2")
    found, bad, _ = resolve(["1.jpg", "2"], *roots)
    assert (found, bad) == (["part_1/1.jpg", "part_2/2.jpg"], {})
    with pytest.raises(InputError, match=r"part_4 does not exist\. Check root="):
        resolve(["1.jpg"], root / "part_4")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1.jpg", "1.jpg could be 2 files, a/1.jpg, b/1.jpg; say which folders"),
        ("2", "2 could be 2 files, a/2.jpg, a/2.png; .* or which ending, as in ext="),
        ("3.jpg", r"there is no file 3.jpg \(there is a/3.png: ext=.png behind the"),
        ("4.jpg", "^there is no file 4.jpg$"),
        ("../x/1.jpg", "leads out of the folder"),
        ("", "no path"),
    ],
)
def test_what_has_several_meanings_or_none_is_explained(root, cell, reason):
    make(root, "a/1.jpg", "b/1.jpg", "a/2.jpg", "a/2.png", "a/3.png")
    found, bad, _ = resolve([cell, "a/1.jpg"], root)
    assert found == ["", "a/1.jpg"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(bad[0])


def test_the_ending_can_be_said(root):
    make(root, "a/2.jpg", "a/2.png", "b/3.png")
    found, bad, _ = resolve(["a/2", "2", "2.jpg", "3.jpg"], root, ending=".png")
    assert (found, bad) == (["a/2.png", "a/2.png", "a/2.png", "b/3.png"], {})
