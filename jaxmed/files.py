"""Files that are either complete or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmed.errors import InputError

# How the names of unfinished files begin: what a killed program leaves behind.
UNFINISHED = ".unfinished-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place at the end.

    If the block fails, the temporary file is removed and `path` stays as it was. Any
    number of processes may write the same path at a time; the last one wins, and a
    reader never sees half a file. The temporary name keeps the ending, by which
    libraries choose a format.

    Args:
        path: where the file will be; its folder is made.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> InputError:
    """Returns the error, to be raised by the caller, for a file that is refused."""
    return InputError(
        f"Cannot write {path}: {error.strerror}. Results go to --out, downloads "
        "and converted weights to --cache or JAXMED_CACHE; choose another folder."
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed program was writing to a folder or below it."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)
