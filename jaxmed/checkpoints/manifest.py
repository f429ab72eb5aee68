"""What the files of a folder were when they were written, so that damage is noticed."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from os import strerror
from pathlib import Path
from typing import Any

import jax

from jaxmed.runtime.files import hash_file

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
    if match := re.search(r"os_error_code='(\d+)'", str(error)):
        return strerror(int(match[1]))
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


MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Writes the SHA-256 of every file below a folder to its manifest.json.

    The files are on the disk, not only on their way to it, when this returns.
    """
    digests = {name: _digest(folder / name) for name in _files(folder)}
    path = folder / MANIFEST
    path.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    _digest(path)


def find_damage(folder: Path) -> str | None:
    """Compares a folder with its manifest.

    Returns:
        The first thing that differs, in words that follow the folder's name, or None.
    """
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in expected.items():
            if not (folder / name).is_file():
                return f"lacks the file {name}"
            if _digest(folder / name) != digest:
                return f"has a file that is not as it was written, {name}"
    except FileNotFoundError:
        return f"lacks the file {MANIFEST}"
    except (ValueError, AttributeError):
        return f"has a file that is not as it was written, {MANIFEST}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return hash_file(path)
