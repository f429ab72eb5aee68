"""Files that are either complete or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmed.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place at the end.

    If the block fails, the temporary file is removed and `path` stays as it was. Any
    number of processes may write the same `path` at a time; the last one wins.

    Raises:
        InputError: the folder cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> InputError:
    """Returns the error for a file of the cache that cannot be written."""
    return InputError(
        f"Cannot write {path}: {error.strerror}. "
        "Choose another cache folder with --cache or JAXMED_CACHE."
    )
