"""Checks of a training before anything is computed: arguments, sizes and shapes."""

import reprlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.augmentation import Augmentation, create_augmentation
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import OneValuePerChannel, set_training_norms
from jaxmed.models.outputs import is_single
from jaxmed.models.parameters import merge, split
from jaxmed.runtime.annotations import expect
from jaxmed.strategies import Strategy
from jaxmed.training.inputs.activation_cache.plan import CacheSettings
from jaxmed.training.loss import Loss

# Of the arguments that `fit` and `find_learning_rates` share: objects, with what makes
# one of its name; and plain values.
_OBJECTS: dict[str, tuple[type, Callable[[str], Any] | None]] = {
    "model": (Classifier, None),
    "data": (Dataset, None),
    "preprocessing": (Preprocessing, None),
    "loss": (Loss, lambda name: Loss(name=name)),
    "augmentation": (Augmentation, create_augmentation),
    "mixing": (Mixing, None),
    "cache": (CacheSettings, lambda name: CacheSettings(mode=name)),
}
_VALUES: dict[str, Any] = {
    **dict.fromkeys(("batch_size", "accumulate", "seed", "checkpoint_steps"), int),
    **dict.fromkeys(("select", "sampling", "feed", "precision"), str),
    "ema": float,
}


def take_arguments(**given: Any) -> SimpleNamespace:
    """Checks the types of arguments, and makes objects of their names.

    Args:
        **given: some of `fit`'s, by name; a preprocessing may be None.

    Raises:
        InputError: one is of another type, or there is nothing of that name.
    """
    taken = SimpleNamespace(**given)
    for name, value in given.items():
        if name in _VALUES:
            expect(_VALUES[name], value, name)
            continue
        kind, make = _OBJECTS[name]
        if make and isinstance(value, str):
            setattr(taken, name, make(value))
        elif not (isinstance(value, kind) or (name, value) == ("preprocessing", None)):
            named = " or its name" if make else ""
            raise InputError(
                f"{name} must be a {kind.__module__}.{kind.__qualname__}{named}, got "
                f"{reprlib.repr(value)}."
            )
    if given.get("seed", 0) < 0:
        raise InputError(f"seed must be at least 0, got {given['seed']}.")
    return taken


def check_batches(
    model: Classifier, data: Dataset, batch_size: int, accumulate: int
) -> tuple[int, int]:
    """Checks that batches of so many images of `data` can be trained on.

    Returns:
        The batch size and the batches of a step, neither larger than the training
        images need: the same steps, without rows and batches of nothing but padding.

    Raises:
        InputError: a number below 1, or another number of classes than the model's.
    """
    for name, number in (("batch_size", batch_size), ("accumulate", accumulate)):
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}.")
    logits, classes = model.head.out.out_features, len(data.class_names)
    if logits != classes and not is_single(logits, data.task):
        single = ", or with 1 for a single logit" if data.task == "binary" else ""
        raise InputError(
            f"{data.source} has {classes} classes, and the model {logits} logits. "
            f"Build it with num_classes={classes}{single}."
        )
    images = len(data.train)
    batch_size = min(batch_size, images)
    return batch_size, min(accumulate, -(-images // batch_size))


def check_shapes(
    model: Classifier,
    strategy: Strategy,
    preprocessing: Preprocessing,
    *,
    images: int,
    batch_size: int,
) -> None:
    """Checks that the network takes such images, and its BatchNorm such batches.

    Nothing is computed: the shapes are followed through the network.

    Args:
        model: stays as it is.
        strategy: fits the model.
        preprocessing: gives the size and channels of what the network gets.
        images: of an epoch.
        batch_size: of them that the network sees at once, at most `images`.

    Raises:
        InputError: other channels than the model's, images too small for it, or a
            batch of one image whose map is one pixel where BatchNorm is trained: of
            one value no variance can be taken, and torch refuses it too.
    """
    if preprocessing.channels != model.in_channels:
        raise InputError(
            f"The preprocessing gives {preprocessing.channels} channels, and the model "
            f"takes {model.in_channels}; they must be the same."
        )
    fewest = images % batch_size or batch_size
    _follow_shapes(model, preprocessing, frozenset())
    if fewest > 1:
        return
    for phase in strategy.phases:
        try:
            _follow_shapes(model, preprocessing, phase.training_norms(model))
        except OneValuePerChannel as error:
            which = (
                "Its batches have one image"
                if batch_size == 1
                else f"The last batch of an epoch has one image ({images} in batches "
                f"of {batch_size})"
            )
            raise InputError(
                f"Phase {phase.name!r} trains BatchNorm layers. {which}, and the map "
                "before such a layer is one pixel: of one value for each channel no "
                f"variance can be taken. Use another batch_size than {batch_size}, a "
                'larger image_size, or batch_norm = "eval".'
            ) from error


def _follow_shapes(
    model: Classifier, preprocessing: Preprocessing, norms: frozenset[str]
) -> None:
    """Traces one image through the network, some BatchNorm layers in training mode."""
    copy = merge(*split(model))
    set_training_norms(copy, norms)
    definition, params, stats = split(copy)

    def run(weights, image):
        return merge(definition, weights, {})(image, rngs=nnx.Rngs(dropout=0))

    size = preprocessing.image_size
    image = jax.ShapeDtypeStruct((1, size, size, preprocessing.channels), jnp.float32)
    jax.eval_shape(run, params | stats, image)
