"""Checks of a training before anything is computed: sizes, strategy and shapes."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from jaxmed.data.batching import check_sampling
from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError, unknown
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import OneValuePerChannel, set_training_norms
from jaxmed.models.outputs import is_single
from jaxmed.models.parameters import merge, split
from jaxmed.models.precision import resolve_precision, set_precision
from jaxmed.strategies import Strategy, create_strategy
from jaxmed.strategies.adapter import add_adapter, with_adapter
from jaxmed.training.config import TrainingConfig, check_type
from jaxmed.training.model_selection import WATCHED

AnyStrategy = str | Strategy | Callable[[Classifier], Strategy]


def prepare_training(
    model: Classifier,
    data: Dataset,
    strategy: AnyStrategy,
    config: TrainingConfig,
    *,
    mesh: Mesh,
    images: int | None = None,
) -> tuple[Strategy, TrainingConfig]:
    """Check that everything fits together, and resolve what is left open.

    Args:
        model: its layers are set to the precision that they will compute in, and it
            gets the parameters that the strategy adds.
        data: train and val splits.
        strategy: a preset's name, a strategy, or a function of the model.
        config: the options of training.
        mesh: the devices.
        images: of an epoch, if not all of `data.train`.

    Returns:
        The strategy, and the options as they are carried out: batches no larger than
        the data, the precision, and the preprocessing.

    Raises:
        InputError: something is of another type, does not fit, or is too small.
    """
    check_type(Classifier, model, "model")
    check_type(Dataset, data, "data")
    batch_size, accumulate = check_batches(
        model, data, config.batch_size, config.accumulate
    )
    check_sampling(config.sampling, data.task)
    precision = resolve_precision(config.precision, mesh.devices.flat[0])
    set_precision(model, precision)
    strategy = as_strategy(strategy, model)
    preprocessing = config.preprocessing or preprocessing_of(
        model, data.image_size, data.resizing
    )
    check_shapes(
        with_adapter(model, strategy.adapter),
        strategy,
        preprocessing,
        images=images or len(data.train),
        batch_size=batch_size,
    )
    add_adapter(model, strategy.adapter)
    return strategy, replace(
        config,
        batch_size=batch_size,
        accumulate=accumulate,
        precision=precision,
        preprocessing=preprocessing,
    )


def check_phases(strategy: Strategy) -> None:
    """Check that a strategy has a phase to train.

    Raises:
        InputError: it has none: it is of classifiers of features.
    """
    if not strategy.phases:
        raise InputError(
            f"The strategy {strategy.name} trains no network: it is for the arm of a "
            "recipe, which `run` takes."
        )


def as_strategy(strategy: AnyStrategy, model: Classifier) -> Strategy:
    """Make a strategy of what `fit` takes, and check that it fits the model.

    Raises:
        InputError: there is none of that name, it is something else, it does not fit,
            or a plateau watches a column that no history has.
    """
    passed = strategy
    if isinstance(strategy, str):
        strategy = create_strategy(strategy, model)
    elif callable(strategy):
        strategy = strategy(model)
    if not isinstance(strategy, Strategy):
        returned = f"which returned {strategy!r}" if strategy is not passed else ""
        raise InputError(
            "strategy must be a name, a jaxmed.strategies.Strategy or a function of "
            f"the model that returns one, got {passed!r}{returned and ', ' + returned}."
        )
    strategy.summary(model)
    for phase in strategy.phases:
        if phase.schedule.watch not in WATCHED:
            raise unknown(
                "column to watch for a plateau", phase.schedule.watch, WATCHED
            )
    return strategy


def check_batches(
    model: Classifier, data: Dataset, batch_size: int, accumulate: int
) -> tuple[int, int]:
    """Check that batches of so many images of `data` can be trained on.

    Returns:
        The batch size and the batches of a step, neither larger than the training
        images need: the same steps, without rows and batches of nothing but padding.

    Raises:
        InputError: another number of classes than the model's.
    """
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
    """Check that the network takes such images, and its BatchNorm such batches.

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
    """Trace one image through the network, some BatchNorm layers in training mode."""
    copy = merge(*split(model))
    set_training_norms(copy, norms)
    definition, params, stats = split(copy)

    def run(weights, image):
        return merge(definition, weights, {})(image, rngs=nnx.Rngs(dropout=0))

    size = preprocessing.image_size
    image = jax.ShapeDtypeStruct((1, size, size, preprocessing.channels), jnp.float32)
    jax.eval_shape(run, params | stats, image)
