"""Whether there is room on a disk, and what is wrong when writing to it fails."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from os import strerror
from pathlib import Path
from typing import Any

import jax

# Bytes that a checkpoint may need beside its arrays.
MARGIN = 2**18


def check_room(folder: Path, tree: Any) -> None:
    """Checks, before it is begun, that a pytree of arrays can be written to a folder.

    Raises:
        OSError: there is not enough room on its disk.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + MARGIN
    if shutil.disk_usage(folder).free < needed:
        raise OSError(ENOSPC, strerror(ENOSPC))


def find_reason(error: BaseException) -> str | None:
    """Returns what the system said when writing failed; None if it was not that.

    Orbax wraps it, and TensorStore below it writes the number into a text.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        return strerror(int(found[1]))
    inner = error.__cause__ or error.__context__
    return find_reason(inner) if inner else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Orbax's threads from printing the traceback of what is raised anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
