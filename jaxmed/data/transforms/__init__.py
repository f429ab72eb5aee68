"""Transforms of images: preprocessing, augmentation, MixUp, test-time views."""

from jaxmed.data.transforms.augmentation import (
    PRESETS,
    Augmentation,
    Operation,
    create_augmentation,
)
from jaxmed.data.transforms.color import ColorJitter, StainJitter
from jaxmed.data.transforms.crops import RandomErasing, RandomResizedCrop, ResizeAndCrop
from jaxmed.data.transforms.geometry import (
    HorizontalFlip,
    QuarterTurns,
    Rotation,
    VerticalFlip,
)
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing

__all__ = [
    "PRESETS",
    "Augmentation",
    "ColorJitter",
    "HorizontalFlip",
    "Mixing",
    "Operation",
    "Preprocessing",
    "QuarterTurns",
    "RandomErasing",
    "RandomResizedCrop",
    "ResizeAndCrop",
    "Rotation",
    "StainJitter",
    "VerticalFlip",
    "create_augmentation",
]
