"""`cells`, `cells:source` and `cells:folder`: blood smears drawn by the program.

A pair of data sets that shows what transfer learning is for, without a download.
`cells:source` is large, for training a backbone; `cells` has other classes and few
labeled train images. `cells:folder` has two of these classes, as image files in the
layout of `jaxmed.data.sources.folder`.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxmed.data.dataset import SPLITS, SourceImages
from jaxmed.data.sources.folder import load_folder
from jaxmed.data.sources.npz import read_npz
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.files import atomic_folder, atomic_write, write_error
from jaxmed.runtime.progress import progress

DRAWN_BY = ("slide.py", "white_cells.py", "classes.py", "cells.py")


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """A data set to be drawn.

    Attributes:
        name: "cells", "cells-source" or "cells-folder".
        number: keeps the random streams of different data sets apart.
        kinds: which table of `jaxmed.data.sources.synthetic_cells.classes` has its
        classes.
        counts: images per class in each split.
    """

    name: str
    number: int
    kinds: str
    counts: dict[str, int]


# By what follows "cells:". 20 images a class is what an expert labels in an hour.
DRAWINGS = {
    "": DrawnSet(
        name="cells",
        number=0,
        kinds="TARGET",
        counts={"train": 20, "val": 20, "test": 100},
    ),
    "source": DrawnSet(
        name="cells-source",
        number=1,
        kinds="SOURCE",
        counts={"train": 700, "val": 60, "test": 60},
    ),
    "folder": DrawnSet(
        name="cells-folder",
        number=2,
        kinds="PAIR",
        counts={"train": 40, "val": 20, "test": 60},
    ),
}


def load_cells(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `cells`, `cells:source` or `cells:folder`, which are drawn the first time.

    Figures are kept in the cache folder under a name that holds the hash of the code
    that drew them, so that a new version of jaxmed draws anew.

    Args:
        rest: "", "source" or "folder".
        options: see `LoadOptions`.

    Raises:
        InputError: unknown `rest`, or a cache folder that cannot be written to.
    """
    source = f"cells:{rest}" if rest else "cells"
    if rest not in DRAWINGS:
        names = ("cells", "cells:source", "cells:folder")
        raise unknown("drawn data set", source, names)
    drawing = DRAWINGS[rest]
    cache = cache_folder(options.cache) / "cells"
    path = cache / f"{drawing.name}-{_version()}.npz"
    if rest == "folder":
        folder = path.with_suffix("")
        _draw_files(drawing, folder)
        images = load_folder(str(folder), options)
        return replace(images, name=drawing.name, source=source)
    if path.is_file():
        try:
            return _read(path, drawing, source)
        except InputError:
            # A damaged file: drawing it again costs less than explaining it.
            path.unlink(missing_ok=True)
    arrays = draw_arrays(drawing)
    with atomic_write(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    return _read(path, drawing, source)


def draw_arrays(drawing: DrawnSet, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws all splits in MedMNIST's layout; see `jaxmed.data.sources.npz`.

    Every image has a random stream of its own, of (seed, data set, split, index), so
    that none depends on how many others are drawn. Classes take turns.
    """
    from jaxmed.data.sources.synthetic_cells.slide import SIZE, Slide

    draws = list(_kinds(drawing).values())
    totals = [drawing.counts[split] * len(draws) for split in SPLITS]
    arrays = {}
    with progress(f"Drawing {drawing.name}", sum(totals), unit="images") as advance:
        for number, (split, total) in enumerate(zip(SPLITS, totals, strict=True)):
            images = np.empty((total, SIZE, SIZE, 3), np.uint8)
            labels = np.arange(total, dtype=np.int32) % len(draws)
            for i, label in enumerate(labels):
                key = [seed, drawing.number, number, i]
                slide = Slide(np.random.default_rng(key))
                draws[label](slide)
                images[i] = slide.photograph()
                advance(1)
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays


def _draw_files(drawing: DrawnSet, folder: Path) -> None:
    """Writes folder/{train,val,test}/CLASS/NUMBER.png, unless the folder is there."""
    if folder.is_dir():
        return
    names = tuple(_kinds(drawing))
    arrays = draw_arrays(drawing)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as temporary:
            for split in SPLITS:
                labels = arrays[f"{split}_labels"]
                for i, (image, label) in enumerate(
                    zip(arrays[f"{split}_images"], labels, strict=True)
                ):
                    path = temporary / split / names[label] / f"{i:03d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(path)
    except OSError as error:
        # Another process may have been there first, with the same drawings.
        if not folder.is_dir():
            raise write_error(folder, error) from error


def _kinds(drawing: DrawnSet) -> dict:
    from jaxmed.data.sources.synthetic_cells import classes as cell_kinds

    return getattr(cell_kinds, drawing.kinds)


def _read(path: Path, drawing: DrawnSet, source: str) -> SourceImages:
    classes = ("multiclass", tuple(_kinds(drawing)))
    return replace(read_npz(path, source, classes=classes), name=drawing.name)


def _version() -> str:
    digest = hashlib.sha256(np.__version__.encode())
    for name in DRAWN_BY:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]
