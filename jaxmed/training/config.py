"""Options of training: each declared once, with its meaning, default and check."""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jaxmed.config.schema import TrainingOptions
from jaxmed.config.setting import check_range, setting
from jaxmed.data.transforms.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    create_augmentation,
)
from jaxmed.data.transforms.mixup import NO_MIXING, Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError, unknown
from jaxmed.inference.activations import ActivationStore
from jaxmed.runtime.annotations import expect
from jaxmed.training.loss import CROSS_ENTROPY, Loss

CACHE_MODES = ("auto", "off", "float32", "bfloat16")
_NEUTRAL = {"neutral": True}


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Whether and how the activations of frozen layers are cached.

    Attributes:
        mode: "auto", in float32 where it saves time; "off", never; "float32" or
            "bfloat16", wherever it is possible. bfloat16 takes half the room and
            rounds to three digits.
        views: with augmentation, views of every train image that are drawn once and
            take turns in the epochs; 0 caches nothing there, so that every epoch
            draws anew.
        memory: gigabytes up to which the cache is in memory; above, it is on disk.
        folder: for the files on disk, which are gone when the phase or the program
            ends; by default the cache folder.
        store: what else has computed is taken from there, and what is computed is
            left there for others; None shares nothing.

    Raises:
        InputError: an unknown mode, or a negative number.
    """

    mode: str = "auto"
    views: int = 0
    memory: float = field(default=4.0, metadata=_NEUTRAL)
    folder: Path | None = field(default=None, metadata=_NEUTRAL)
    store: ActivationStore | None = field(default=None, metadata=_NEUTRAL)

    def __post_init__(self) -> None:
        if self.mode not in CACHE_MODES:
            raise unknown("cache mode", self.mode, CACHE_MODES)
        for name in ("views", "memory"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"The cache's {name} must be at least 0, got {getattr(self, name)}."
                )


# Options whose object may be given by its name.
_BY_NAME: dict[str, Callable[[str], Any]] = {
    "loss": lambda name: Loss(name=name),
    "augmentation": create_augmentation,
    "cache": lambda mode: CacheSettings(mode=mode),
}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(TrainingOptions):
    """Options of training: what `fit` takes beside the model, the data, the strategy.

    A new option is a field here; or in `jaxmed.config.schema.TrainingOptions` if it is
    a plain value, which makes it a key of [train] in recipes and a flag of `run` too.
    Checkpoints are refused if an option differs that is not declared `neutral`.

    Examples:
        >>> config = TrainingConfig(batch_size=16, loss="focal")
        >>> config.loss.name
        'focal'

    Raises:
        InputError: a value of another type or out of its range, or an unknown name.
    """

    preprocessing: Preprocessing = setting(
        "uint8 images to network input; None: resized to `data.image_size` as "
        "`data.resizing` says, and normalized as `preprocessing_of` does",
        None,
    )
    loss: Loss = setting(
        "loss to minimize, or its name; val_loss is the same loss", CROSS_ENTROPY
    )
    augmentation: Augmentation = setting(
        "random changes of training images, or the name of a preset, such as xray, see "
        "`jaxmed.data.create_augmentation`; validation images stay as they are",
        NO_AUGMENTATION,
    )
    mixing: Mixing = setting(
        "mixup and cutmix; accuracy on training images is then shared between the "
        "labels as the loss is",
        NO_MIXING,
    )
    cache: CacheSettings = setting(
        "cached activations of frozen layers, or the cache's mode, such as off",
        CacheSettings(),
    )
    seed: int = setting(
        "decides order and draw of images, augmentation, mixing and dropout", 0, low=0
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in _BY_NAME and isinstance(value, str):
                value = _BY_NAME[option.name](value)
                object.__setattr__(self, option.name, value)
            if option.type in (int, float, str):
                expect(option.type, value, option.name)
                check_range(option, value, option.name)
            elif value is not option.default:
                check_type(option.type, value, option.name)

    @classmethod
    def of(
        cls, config: "TrainingConfig | None", options: Mapping[str, Any]
    ) -> "TrainingConfig":
        """Return a configuration with some options replaced.

        Args:
            config: None for the defaults.
            options: by name.

        Raises:
            InputError: there is no such option, or its value is refused.
        """
        names = [option.name for option in fields(cls)]
        for name in options:
            if name not in names:
                raise unknown("option of training", name, names)
        if config is None:
            return cls(**options)
        check_type(cls, config, "config")
        return replace(config, **options)


# `help(TrainingConfig)` lists every option, from its declaration.
TrainingConfig.__doc__ = f"{TrainingConfig.__doc__}\n    Attributes:\n" + "\n".join(
    f"        {option.name}: {option.metadata['doc']}."
    for option in fields(TrainingConfig)
)


def check_type(cls: Any, value: Any, name: str) -> None:
    """Check that an argument is an object of a class.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, cls):
        named = " or its name" if name in _BY_NAME else ""
        raise InputError(
            f"{name} must be a {cls.__module__}.{cls.__qualname__}{named}, got "
            f"{reprlib.repr(value)}."
        )
