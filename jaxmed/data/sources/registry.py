"""Registry of data sources: "medmnist:bloodmnist", "folder:scans", "cells"."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from jaxmed.data.dataset import Dataset, SourceImages, check_trainable
from jaxmed.data.images.gray_range import settle_window
from jaxmed.data.images.open import Reading
from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import AUTO
from jaxmed.data.sources.folder import load_dicom, load_folder
from jaxmed.data.sources.npz import load_medmnist, load_npz
from jaxmed.data.sources.source_options import LoadOptions, apply_naming, take_naming
from jaxmed.data.sources.synthetic_cells.cells import load_cells
from jaxmed.data.sources.table.table import load_table
from jaxmed.data.sources.tfds import load_tfds
from jaxmed.data.splits.splitting import GIVEN, Splitting, make_split
from jaxmed.data.splits.subset import draw_subset
from jaxmed.errors import InputError, unknown

# A loader gets what follows the colon, and how to load it. Order and names of classes,
# new splits, gray ranges and subsets are applied here, to the images of every source.
Loader = Callable[[str, LoadOptions], SourceImages]
LOADERS: dict[str, Loader] = {
    "medmnist": load_medmnist,
    "npz": load_npz,
    "folder": load_folder,
    "dicom": load_dicom,
    "table": load_table,
    "tfds": load_tfds,
    "cells": load_cells,
}
# The group of entry points with which an installed package adds loaders of its own.
ENTRY_POINTS = "jaxmed.sources"


def load_dataset(
    source: str,
    *,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    train_images: int = 0,
    subset_seed: int = 0,
    splitting: Splitting = GIVEN,
    memory_budget: float | None = None,
    on_error: str = "stop",
    window: str = AUTO,
    cache: Path | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        source: "medmnist:NAME" (28 pixels; "medmnist:NAME_224" and so on for larger
            files), "npz:PATH", "folder:PATH" (PATH/{train,val,test}/CLASS/IMAGE, or
            PATH/CLASS/IMAGE to be split), "dicom:PATH" (of DICOM files in the same
            way), "table:PATH" or "table:PATH?OPTIONS" (CSV or Parquet; for the options
            see `jaxmed.data.sources.table.table`), "tfds:NAME" (prepared by
            tensorflow-datasets), "cells", "cells:source" or "cells:folder"; or what an
            installed package adds, see `find_loader`. Of each, "?classes=A,B",
            "?positive=A" and "?task=ordinal" say the order of the classes or new names,
            the positive one of two, and that they are grades; see
            `jaxmed.data.sources.source_options`.
        image_size: side in pixels that the network gets, at least 1; None means the
            longer side of the stored images.
        resizing: how images become squares of it, by default without keeping their
            aspect ratio.
        train_images: how many training images to keep, see `draw_subset`; 0 means
            all.
        subset_seed: of that draw.
        splitting: what becomes train, val and test; by default as the source has it.
        memory_budget: gigabytes that the images of a folder or table may take; a
            larger set stays in its files, see `Reading`. 0 keeps every set there,
            None means a quarter of this machine's memory.
        on_error: "stop" refuses files and rows that cannot be used; "skip" leaves
            them out, and `Dataset.skipped` tells which.
        window: which gray values of images of more than 8 bits become black and white,
            see `jaxmed.data.images.window.Window.setting`. What it needs to know of the
            images it takes from the training split, and `Dataset.window` tells it.
        cache: the folder for downloads, drawn images and indexes of files; None means
            $JAXMED_CACHE or ~/.cache/jaxmed.

    Raises:
        InputError: the source is unknown, cannot be read, is not a data set for
            classification, cannot be split so, or has not that many training images.

    Examples:
        >>> import numpy as np
        >>> arrays = {}
        >>> for split in ("train", "val", "test"):
        ...     arrays[f"{split}_images"] = np.zeros((4, 28, 28), np.uint8)
        ...     arrays[f"{split}_labels"] = np.array([0, 1, 0, 1])
        >>> np.savez("scans.npz", **arrays)
        >>> data = load_dataset("npz:scans.npz?classes=healthy,ill", image_size=64)
        >>> data.task, data.class_names, data.train.images.shape
        ('binary', ('healthy', 'ill'), (4, 28, 28, 1))
    """
    loaded = load_source(
        source,
        image_size=image_size,
        resizing=resizing,
        splitting=splitting,
        memory_budget=memory_budget,
        on_error=on_error,
        window=window,
        cache=cache,
    )
    return draw_subset(loaded.split(splitting), train_images, subset_seed)


@dataclass(frozen=True, kw_only=True)
class LoadedSource:
    """Images of a source that were read once, to be split in several ways.

    Attributes:
        images: of the source.
        image_size: see `load_dataset`.
        reading: how the images were read.
    """

    images: SourceImages
    image_size: int | None
    reading: Reading

    def split(self, splitting: Splitting) -> Dataset:
        """Make the data set of a split.

        Args:
            splitting: but for the fold as the source was loaded with.

        Raises:
            InputError: the source cannot be split so.
        """
        dataset = make_split(self.images, splitting)
        check_trainable(dataset)
        dataset = settle_window(dataset, self.reading)
        size = self.image_size or dataset.image_size
        return replace(dataset, image_size=size, resizing=self.reading.resizing)


def load_source(
    source: str,
    *,
    image_size: int | None = None,
    resizing: Resizing = SQUASH,
    splitting: Splitting = GIVEN,
    memory_budget: float | None = None,
    on_error: str = "stop",
    window: str = AUTO,
    cache: Path | None = None,
) -> LoadedSource:
    """Read the images of a source; arguments and errors are those of `load_dataset`."""
    bare, naming = take_naming(source)
    scheme, _, rest = bare.partition(":")
    loader = find_loader(scheme)
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size must be at least 1, got {image_size}.")
    reading = Reading(
        resizing=resizing, memory=memory_budget, on_error=on_error, window=window
    )
    options = LoadOptions(
        image_size=image_size,
        reading=reading,
        splitting=splitting,
        naming=naming,
        cache=cache,
    )
    loaded = loader(rest, options)
    if not isinstance(loaded, SourceImages):
        raise InputError(
            f"{source}: its loader returned a {type(loaded).__name__}; it must return "
            "a jaxmed.data.SourceImages."
        )
    images = apply_naming(loaded, naming, source)
    return LoadedSource(images=images, image_size=image_size, reading=reading)


def list_schemes() -> list[str]:
    """Returns what can stand before the colon: jaxmed's, then those of packages."""
    return [*LOADERS, *metadata.entry_points(group=ENTRY_POINTS).names]


def find_loader(scheme: str) -> Loader:
    """Returns the loader of what stands before the colon, such as "folder".

    One of jaxmed's goes before an entry point of the same name. An error in the code
    behind an entry point is its author's to find, so it comes out as it is.

    Raises:
        InputError: there is no such loader, or its package is broken.
    """
    if scheme in LOADERS:
        return LOADERS[scheme]
    if scheme not in list_schemes():
        raise unknown("data source", scheme, list_schemes())
    point = metadata.entry_points(group=ENTRY_POINTS)[scheme]
    try:
        return point.load()
    except ModuleNotFoundError as error:
        # Another module, that this one imports, is its author's to find.
        if not f"{point.module}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"The data source {scheme!r} is {point.value}, which is not there: "
            f"{error}. Install its package again."
        ) from error
