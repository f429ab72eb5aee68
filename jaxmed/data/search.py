"""Image files in a folder and in those below it."""

import os
from collections.abc import Iterator
from pathlib import Path

from jaxmed.errors import InputError


def search(
    folder: Path,
    base: str,
    endings: tuple[str, ...],
    bad: dict[str, str],
    above: tuple[Path, ...] = (),
) -> Iterator[str]:
    """Finds the images in a folder and in those below it.

    Args:
        folder: to look in.
        base: the folder's own name, below which its images are named.
        endings: of images.
        bad: gets the reason, by name, of what cannot be an image.
        above: the folders that this one lies in.
    """
    real = folder.resolve()
    if any(other.is_relative_to(real) for other in above):
        bad[_spell(base)] = "a link to a folder that it lies in, so without an end"
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        bad[_spell(base)] = f"a folder that cannot be read: {error.strerror}"
        return
    for entry in entries:
        name = f"{base}/{entry.name}"
        if entry.name[0] == ".":
            continue
        if _is_folder(entry):
            yield from search(folder / entry.name, name, endings, bad, (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in endings:
            # Bytes of a name that are no UTF-8 reach Python as lone surrogates.
            if name.isascii() or name == _spell(name):
                yield name
            else:
                bad[_spell(name)] = "its name is not UTF-8"


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself.
        return False


def _spell(name: str) -> str:
    r"""Returns a name as text that can be written: "\udcff" for a broken byte."""
    return name.encode(errors="backslashreplace").decode()


def visible(folder: Path) -> list[Path]:
    """Returns what is in a folder and not hidden, in sorted order.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read: {error.strerror}."
        ) from error
