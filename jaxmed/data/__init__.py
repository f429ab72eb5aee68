"""Images with labels: sources, splits, and what happens on the way to the network.

The names below load on first use: data needs NumPy only, preprocessing and
augmentation need JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset as Dataset
    from jaxmed.data.dataset import Split as Split
    from jaxmed.data.dataset import Task as Task
    from jaxmed.data.images.resizing import Resizing as Resizing
    from jaxmed.data.sources.registry import load_dataset as load_dataset
    from jaxmed.data.splits.splitting import Splitting as Splitting
    from jaxmed.data.transforms.augmentation import Augmentation as Augmentation
    from jaxmed.data.transforms.preprocess import IMAGENET_MEAN as IMAGENET_MEAN
    from jaxmed.data.transforms.preprocess import IMAGENET_STD as IMAGENET_STD
    from jaxmed.data.transforms.preprocess import Preprocessing as Preprocessing
    from jaxmed.data.transforms.presets import (
        create_augmentation as create_augmentation,
    )

_HOMES = {
    "Augmentation": "augment",
    "Dataset": "dataset",
    "Split": "dataset",
    "Task": "dataset",
    "IMAGENET_MEAN": "preprocess",
    "IMAGENET_STD": "preprocess",
    "Preprocessing": "preprocess",
    "Resizing": "resizing",
    "Splitting": "split",
    "create_augmentation": "augment_presets",
    "load_dataset": "sources",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
