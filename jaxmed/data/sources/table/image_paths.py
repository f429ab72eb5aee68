"""Resolution of the image paths in a table, as published, to files.

A cell is a path below the folder of the images. What people publish differs from that
in few ways, and each is resolved where it has one meaning only, and said in a sentence:
absolute paths, backslashes, names without an ending, folders of another machine that
all rows share, names of images that lie in several folders, and names in another
Unicode form or case.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

from jaxmed.data.images.discovery import ENDINGS, MASK_FOLDER, is_rubbish
from jaxmed.errors import InputError
from jaxmed.runtime.progress import progress

# Cells that decide whether folders that all rows share are left out, and how many
# files a sentence names.
SAMPLE, PATHS_SHOWN = 64, 3
# More cells than these take seconds: they show progress.
MANY = 20_000


@dataclass(kw_only=True)
class Resolver:
    """Finds the files of cells.

    Attributes:
        roots: folders of the images, of which each cell is tried in all.
        ending: of the files, such as ".png", where cells have none or another; "" for
            the one that there is.
        found: how many cells were resolved in which way, for `notes`.
        leading: folders that all cells begin with and no root has.
    """

    roots: Sequence[Path]
    ending: str = ""
    found: Counter[str] = field(default_factory=Counter)
    leading: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.roots = [Path(os.path.abspath(root)) for root in self.roots]
        for root in self.roots:
            if not root.is_dir():
                raise InputError(
                    f"The folder of the images {root} does not exist. Check root=, "
                    "which starts from the table's folder."
                )
        self.top = Path(os.path.commonpath(self.roots))

    def resolve(self, cells: Sequence[str], bad: dict[int, str]) -> list[str]:
        """Returns the path of each cell's file below `top`, "" where there is none.

        Args:
            cells: of the column of paths.
            bad: gets the reason, by row, of each cell without one file.
        """
        self.leading = self._find_leading([cell for cell in cells if cell])
        paths = [""] * len(cells)
        bar = progress(f"Finding files below {self.top.name}", len(cells), unit="files")
        with bar if len(cells) > MANY else nullcontext(lambda _: None) as advance:
            for i, cell in enumerate(cells):
                try:
                    paths[i] = self._find(cell)
                except _NotFound as error:
                    bad[i] = str(error)
                advance(1)
        return paths

    def notes(self) -> list[str]:
        """Returns a sentence on each way in which cells were resolved."""
        return [f"{count:,} paths {how}" for how, count in self.found.items()]

    def _find_leading(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Returns the fewest folders that, left out of all cells, make them paths.

        Those of a machine where the files were, or the name of the set's own folder.
        """
        sample = [self._parts(cell) for cell in cells[:: 1 + len(cells) // SAMPLE]]
        shared = _shared([parts[:-1] for parts in sample])
        there = any(os.path.isfile(posixpath.join(*parts)) for parts in sample)
        # What lies elsewhere is not to be taken for what lies here.
        outside = there and _is_absolute(shared)
        most = 0 if ".." in shared or outside else len(shared)
        for count in range(most + 1):
            if any(self._below(posixpath.join(*parts[count:])) for parts in sample):
                return tuple(shared[:count])
        return ()

    def _find(self, cell: str) -> str:
        if not cell:
            raise _NotFound("no path")
        parts = self._parts(cell)
        how = "with backslashes" if "\\" in cell and "/" not in cell else ""
        if self.leading and tuple(parts[: len(self.leading)]) == self.leading:
            parts = parts[len(self.leading) :]
            start = posixpath.join(*self.leading).rstrip("/")
            how = f"taken without their first {start}/"
        path = posixpath.join(*parts)
        names = self._below(path)
        if not names and (_is_absolute(parts) or parts[0] == ".."):
            raise _NotFound(
                f"{cell} leads out of the folder of the images, {self.top}; "
                "root=FOLDER says another"
            )
        if not names:
            names, how = self._search(path)
        if not names:
            raise _NotFound(f"there is no file {cell}{self._hint(path)}")
        if len(names) > 1:
            shown = ", ".join(names[:PATHS_SHOWN])
            shown += ", ..." if len(names) > PATHS_SHOWN else ""
            raise _NotFound(
                f"{cell} could be {len(names)} files, {shown}; say which folders to "
                "look in, as in root=A,B, or which ending, as in ext=.png"
            )
        if how:
            self.found[how] += 1
        return names[0]

    def _parts(self, cell: str) -> list[str]:
        """Returns a cell's folders and its name, "/" first if it is absolute."""
        if "\\" in cell and not any((root / cell).exists() for root in self.roots):
            cell = cell.replace("\\", "/")
        drive = PureWindowsPath(cell).drive if cell[1:3] == ":/" else ""
        path = posixpath.normpath(cell)
        if drive or path.startswith("/"):
            first = f"{drive}/"
            return [first, *path.removeprefix(drive).strip("/").split("/")]
        return path.split("/")

    def _below(self, path: str) -> list[str]:
        """Returns the files of a path, in any of the roots, as paths below `top`."""
        base, ending = os.path.splitext(path)
        if self.ending:
            path = (base if ending.lower() in ENDINGS else path) + self.ending
        names = []
        for root in self.roots:
            full = os.path.normpath(root / path)
            inside = Path(full).is_relative_to(root)
            if inside and os.path.isfile(full):
                names.append(os.path.relpath(full, self.top).replace(os.sep, "/"))
        return list(dict.fromkeys(names))

    def _search(self, path: str) -> tuple[list[str], str]:
        """Looks for a path in all folders below the roots."""
        base, ending = os.path.splitext(path)
        known = ending.lower() in ENDINGS
        stem = _key(base if known else path)
        keys = [_key(path)]
        if self.ending:
            keys = [stem + self.ending.lower()]
        names = [name for key in keys for name in self._listing.get(key, ())]
        how = "found in a folder below, or in another Unicode form or case"
        if not names and not known and not self.ending:
            names = self._stems.get(stem, [])
            how = "without an ending, found by name"
        if len(names) > 1:
            # The same letters are nearer than those of another case.
            same = f"/{normalize('NFC', path)}"
            names = [n for n in names if _ends(n, same)] or names
        return names, how

    def _hint(self, path: str) -> str:
        others = self._stems.get(_key(os.path.splitext(path)[0]), [])
        if not others:
            return ""
        ending = os.path.splitext(others[0])[1]
        return f" (there is {others[0]}: ext={ending} behind the table's ? takes it)"

    @cached_property
    def _listing(self) -> dict[str, list[str]]:
        """The files below the roots by each end of their path."""
        return self._index(lambda name: name)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        """The same without their endings."""
        return self._index(lambda name: os.path.splitext(name)[0])

    def _index(self, shorten: Callable[[str], str]) -> dict[str, list[str]]:
        by_suffix: dict[str, list[str]] = {}
        for name in self._names:
            parts = _key(shorten(name)).split("/")
            for i in range(len(parts)):
                by_suffix.setdefault("/".join(parts[i:]), []).append(name)
        return by_suffix

    @cached_property
    def _names(self) -> list[str]:
        """The image files below the roots, as paths below `top`."""
        names = {name for root in self.roots for name in self._walk(root)}
        return sorted(names)

    def _walk(self, root: Path) -> Iterator[str]:
        for folder, folders, files in os.walk(root, followlinks=False):
            beside = [name for name in (*folders, *files) if not is_rubbish(name)]
            # A mask has the name of its image, and is not that.
            folders[:] = [
                name
                for name in folders
                if not is_rubbish(name)
                and not (MASK_FOLDER.fullmatch(name) and len(beside) > 1)
            ]
            base = os.path.relpath(folder, self.top)
            prefix = "" if base == "." else f"{base.replace(os.sep, '/')}/"
            for name in files:
                ending = os.path.splitext(name)[1].lower()
                known = ending in ENDINGS or ending == self.ending
                if known and not is_rubbish(name):
                    yield prefix + name


class _NotFound(Exception):
    """A cell names no file, or several; the message says so."""


def _shared(parts: Sequence[Sequence[str]]) -> list[str]:
    """Returns what all begin with."""
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return shared


def _is_absolute(parts: Sequence[str]) -> bool:
    return bool(parts) and parts[0].endswith("/")


def _ends(name: str, same: str) -> bool:
    path = "/" + normalize("NFC", name)
    return path.endswith(same) or os.path.splitext(path)[0].endswith(same)


def _key(path: str) -> str:
    return normalize("NFC", path).casefold()
