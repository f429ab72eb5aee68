"""Files that appear whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxmed.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that becomes `path` at the end of the block.

    If the block raises, the temporary file is removed and `path` is as it was.
    Concurrent runs can write the same path: the last one wins, and a reader never
    sees half a file.

    Raises:
        InputError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("xb")
    except OSError as error:
        raise InputError(
            f"Cannot write to the cache folder {path.parent} ({error.strerror}). "
            f"Set JAXMED_CACHE to a folder that can be written to."
        ) from error
    try:
        with file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
