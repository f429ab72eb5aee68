"""Sources of data by name: "medmnist:bloodmnist", "npz:scans.npz", "cells"."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxmed.data.cells import load_cells
from jaxmed.data.dataset import Dataset
from jaxmed.data.medmnist import load_medmnist
from jaxmed.data.npz import load_npz
from jaxmed.errors import InputError, unknown

# A source is one file with a loader, and one line here. A loader gets what follows
# the colon and the cache folder, and sets image_size to the images' own size.
LOADERS: dict[str, Callable[[str, Path | None], Dataset]] = {
    "medmnist": load_medmnist,
    "npz": load_npz,
    "cells": load_cells,
}


def load_dataset(
    source: str, *, image_size: int | None = None, cache: Path | None = None
) -> Dataset:
    """Loads a data set.

    Args:
        source: "medmnist:NAME" (28 pixels; "medmnist:NAME_224" and so on for larger
            files), "npz:PATH", "cells" or "cells:source".
        image_size: side in pixels that the network gets, at least 1; None means the
            longer side of the stored images.
        cache: the folder for downloads and drawn images; None means $JAXMED_CACHE or
            ~/.cache/jaxmed.

    Raises:
        InputError: the source is unknown, cannot be read, or is not a data set for
            classification.

    Example:
        >>> data = load_dataset("cells", image_size=96)
        >>> data.train.images.shape[1:]
        (96, 96, 3)
    """
    scheme, _, rest = source.partition(":")
    if scheme not in LOADERS:
        raise unknown("data source", scheme, LOADERS)
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size must be at least 1, got {image_size}.")
    dataset = LOADERS[scheme](rest, cache)
    return dataset if image_size is None else replace(dataset, image_size=image_size)
