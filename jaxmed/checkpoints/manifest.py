"""What the files of a folder were when they were written, so that damage is noticed."""

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Writes the SHA-256 of every file below a folder to its manifest.json.

    The files are on the disk, not only on their way to it, when this returns.
    """
    found = {name: _digest(folder / name) for name in _files(folder)}
    path = folder / MANIFEST
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
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
        return hashlib.file_digest(file, "sha256").hexdigest()
