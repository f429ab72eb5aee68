"""Sources of data by name: "medmnist:bloodmnist", "folder:scans", "cells"."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxmed.data.cells import load_cells
from jaxmed.data.dataset import Dataset
from jaxmed.data.folder import load_folder
from jaxmed.data.medmnist import load_medmnist
from jaxmed.data.npz import load_npz
from jaxmed.data.subset import draw_subset
from jaxmed.data.table import load_table
from jaxmed.errors import InputError, unknown

# A source is one file with a loader, and one line here. A loader gets what follows
# the colon, the cache folder and the size that the network gets, for when images have
# to be brought to one; it sets image_size to the size its images have.
LOADERS: dict[str, Callable[[str, Path | None, int | None], Dataset]] = {
    "medmnist": load_medmnist,
    "npz": load_npz,
    "folder": load_folder,
    "table": load_table,
    "cells": load_cells,
}


def load_dataset(
    source: str,
    *,
    image_size: int | None = None,
    train_images: int = 0,
    subset_seed: int = 0,
    cache: Path | None = None,
) -> Dataset:
    """Loads a data set.

    Args:
        source: "medmnist:NAME" (28 pixels; "medmnist:NAME_224" and so on for larger
            files), "npz:PATH", "folder:PATH" (PATH/{train,val,test}/CLASS/IMAGE),
            "table:PATH" (CSV or Parquet), "cells" or "cells:source".
        image_size: side in pixels that the network gets, at least 1; None means the
            longer side of the stored images.
        train_images: how many training images to keep, see `draw_subset`; 0 means
            all.
        subset_seed: of that draw.
        cache: the folder for downloads and drawn images; None means $JAXMED_CACHE or
            ~/.cache/jaxmed.

    Raises:
        InputError: the source is unknown, cannot be read, is not a data set for
            classification, or has not that many training images.

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
    dataset = LOADERS[scheme](rest, cache, image_size)
    if image_size is not None:
        dataset = replace(dataset, image_size=image_size)
    return draw_subset(dataset, train_images, subset_seed)
