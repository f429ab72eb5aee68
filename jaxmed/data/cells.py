"""`cells` and `cells:source`: blood-smear pictures drawn by the program.

A pair of data sets that shows what transfer learning is for, without a download.
`cells:source` is large, for training a backbone; `cells` has other classes and few
labelled train images.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxmed.cache import cache_folder
from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.data.npz import read_npz
from jaxmed.errors import InputError, unknown
from jaxmed.files import replacing
from jaxmed.progress import progress

DRAWN_BY = ("smear.py", "white_cells.py", "cell_kinds.py", "cells.py")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A data set to be drawn.

    Attributes:
        name: "cells" or "cells-source".
        number: keeps the random streams of different data sets apart.
        counts: images per class in each split.
    """

    name: str
    number: int
    counts: dict[str, int]


# By what follows "cells:". 20 images a class is what an expert labels in an hour.
DRAWINGS = {
    "": Drawing(name="cells", number=0, counts={"train": 20, "val": 40, "test": 150}),
    "source": Drawing(
        name="cells-source", number=1, counts={"train": 700, "val": 60, "test": 60}
    ),
}


def load_cells(
    rest: str, cache: Path | None = None, image_size: int | None = None
) -> Dataset:
    """Loads `cells` or `cells:source`; draws them the first time.

    The drawn arrays are kept in the cache folder under a name that holds the hash of
    the code that drew them, so that a new version of jaxmed draws anew.

    Args:
        rest: "" or "source".
        cache: the cache folder; None means the default one.
        image_size: not used; the drawings keep their size.

    Raises:
        InputError: unknown `rest`, or a cache folder that cannot be written to.
    """
    del image_size
    if rest not in DRAWINGS:
        raise unknown("drawn data set", f"cells:{rest}", ("cells", "cells:source"))
    drawing = DRAWINGS[rest]
    path = cache_folder(cache) / "cells" / f"{drawing.name}-{_version()}.npz"
    source = f"cells:{rest}" if rest else "cells"
    if path.is_file():
        try:
            return _read(path, drawing, source)
        except InputError:
            # A damaged file: drawing it again costs less than explaining it.
            path.unlink(missing_ok=True)
    arrays = draw_arrays(drawing)
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    return _read(path, drawing, source)


def draw_arrays(drawing: Drawing, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws all splits in MedMNIST's layout; see `jaxmed.data.npz`.

    Every image has a random stream of its own, of (seed, data set, split, index), so
    that none depends on how many others are drawn. Classes take turns.
    """
    from jaxmed.data.smear import SIZE, Slide

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


def _kinds(drawing: Drawing) -> dict:
    from jaxmed.data import cell_kinds

    return cell_kinds.SOURCE if drawing.number else cell_kinds.TARGET


def _read(path: Path, drawing: Drawing, source: str) -> Dataset:
    classes = ("multiclass", tuple(_kinds(drawing)))
    dataset = read_npz(path, source=source, classes=classes)
    return replace(dataset, name=drawing.name)


def _version() -> str:
    digest = hashlib.sha256(np.__version__.encode())
    for name in DRAWN_BY:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]
