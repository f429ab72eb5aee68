"""An arm made ready: its model with starting weights, and its strategy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.schema import (
    AugmentConfig,
    EvaluateConfig,
    ExperimentConfig,
    ModelConfig,
    TrainConfig,
    TrainingOptions,
)
from jaxmed.errors import InputError, unknown
from jaxmed.experiments.pipeline.explanations import check_explanation
from jaxmed.experiments.pipeline.load_data import resizing_of
from jaxmed.experiments.pipeline.weights import (
    RUN,
    Start,
    adapts_stem,
    check_weights,
    load_start,
)

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.augmentation import Augmentation
    from jaxmed.models.classifier import Classifier
    from jaxmed.strategies import Strategy
    from jaxmed.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class PreparedArm:
    """What training needs beside the data.

    Attributes:
        model: with its starting weights.
        start: where they came from.
        strategy: made for the model.
        training: the options of training, resolved for the data.
    """

    model: "Classifier"
    start: Start
    strategy: "Strategy"
    training: "TrainingConfig"


def check_arm(config: ExperimentConfig, arm: str) -> None:
    """Check what can be checked without images and without weights.

    Raises:
        InputError: an unknown backbone, strategy, option, augmentation or form of
            weights, an option of another type, a scale of other channels than the
            network's, or settings of the loss, or of resizing and views, that
            contradict each other. The sentence begins with the arm's name.
    """
    from jaxmed.data.transforms.test_time import check_views
    from jaxmed.models.registry import ARCHITECTURES
    from jaxmed.strategies.registry import check_options

    with naming(arm):
        if config.model.backbone not in ARCHITECTURES:
            raise unknown("backbone", config.model.backbone, ARCHITECTURES)
        check_weights(config.model.weights)
        if config.model.keep_head and not config.model.weights.startswith(RUN):
            raise InputError(
                "model.keep_head is for the weights of a run, run:FOLDER, and "
                f"model.weights is {config.model.weights}."
            )
        _check_scale(config.model)
        _check_stem(config.model)
        make_augmentation(config.augment)
        check_views(config.evaluate.tta, resizing_of(config.data))
        check_options(config.train.strategy, config.train.options)
        _check_loss(config.train)


def prepare_arm(
    config: ExperimentConfig,
    data: "Dataset",
    *,
    seed: int,
    out: Path,
    abstract: bool = False,
) -> PreparedArm:
    """Build the model, load its weights and create the strategy.

    Args:
        config: of the arm.
        data: decides the number of classes and their weights.
        seed: of the model's random weights.
        out: where weights "run:..." are looked for first.
        abstract: only checks: the model is one of shapes, whose weights are neither
            drawn nor put on a device.

    Raises:
        InputError: weights that are not there or do not fit, a strategy that does not
            fit the model, a single logit, sampling or evaluation that is not for the
            task, a layer to explain that is not there, images too small for the
            network, or a batch of which BatchNorm cannot take a variance.
    """
    from flax import nnx

    from jaxmed.evaluation.evaluate import check_options
    from jaxmed.models.registry import create_model
    from jaxmed.runtime.sharding import data_mesh
    from jaxmed.strategies import create_strategy
    from jaxmed.training.checks import prepare_training

    check_options(data.task, **evaluation_options(config.evaluate))
    if config.model.single_logit and data.task != "binary":
        raise InputError(
            f"model.single_logit is for binary tasks, and {data.source} is {data.task}."
        )
    arguments = config.model.arguments(len(data.class_names))
    build = partial(create_model, **arguments, seed=seed)
    model = nnx.eval_shape(build) if abstract else build()
    stem, why = _choose_stem(config, model)
    names = data.class_names if config.model.keep_head else None
    start = load_start(
        model,
        config.model.weights,
        out,
        stem=stem,
        keep_head=names,
        mean=config.model.mean,
        std=config.model.std,
    )
    start = replace(start, note=f"{start.note}{why}")
    check_explanation(model, config.explain, config.data.image_size)
    train = config.train
    strategy, training = prepare_training(
        model,
        data,
        lambda model: create_strategy(train.strategy, model, **train.options),
        make_training_config(config, model, data, seed=seed),
        mesh=data_mesh(),
    )
    return PreparedArm(model=model, start=start, strategy=strategy, training=training)


def make_training_config(
    config: ExperimentConfig, model: "Classifier", data: "Dataset", *, seed: int
) -> "TrainingConfig":
    """Return the options of training that a recipe asks for.

    Args:
        config: of the arm.
        model: with the mean and deviation that its weights want.
        data: whose labels may weigh the loss.
        seed: of the run.
    """
    from jaxmed.data.transforms.mixup import Mixing
    from jaxmed.inference.preprocessing import preprocessing_of
    from jaxmed.training.class_weights import make_loss
    from jaxmed.training.config import CacheSettings, TrainingConfig

    train = config.train
    shared = {f.name: getattr(train, f.name) for f in fields(TrainingOptions)}
    return TrainingConfig(
        **shared,
        seed=seed,
        preprocessing=preprocessing_of(
            model, data.image_size, data.resizing, data.window
        ),
        augmentation=make_augmentation(config.augment),
        loss=make_loss(
            train.loss,
            label_smoothing=train.label_smoothing,
            focal_gamma=train.focal_gamma,
            class_weights=train.class_weights,
            labels=data.train.labels,
            task=data.task,
            class_names=data.class_names,
            single_logit=config.model.single_logit,
        ),
        mixing=Mixing(mixup=train.mixup, cutmix=train.cutmix),
        cache=CacheSettings(
            mode=train.cache, views=train.cache_views, memory=train.cache_memory
        ),
    )


def make_augmentation(augment: AugmentConfig) -> "Augmentation":
    """Build what [augment] asks for.

    Raises:
        InputError: an unknown preset.
    """
    from jaxmed.data.transforms.augmentation import create_augmentation

    return create_augmentation(
        augment.preset,
        horizontal_flip={"on": True, "off": False}.get(augment.horizontal_flip),
        random_erasing=augment.random_erasing,
    )


def evaluation_options(config: EvaluateConfig) -> dict[str, Any]:
    """Return the options of `evaluate` that not every task has."""
    return {
        "threshold": config.threshold,
        "target": config.target,
        "cost": config.cost,
        "prevalence": config.prevalence or None,
        "calibration": config.calibration,
        "by_patient": config.by_patient,
    }


@contextmanager
def naming(arm: str) -> Iterator[None]:
    """Put the arm's name before the sentence of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"Arm {arm}: {error}") from error


def _check_stem(model: ModelConfig) -> None:
    adapted = model.in_channels == 1 and adapts_stem(model.weights)
    if model.stem != "auto" and not adapted:
        raise InputError(
            f"model.stem is {model.stem}, which is for pretrained RGB weights in a "
            f"network with one channel; model.weights is {model.weights} and "
            f"model.in_channels is {model.in_channels}. Leave model.stem out."
        )


def _choose_stem(config: ExperimentConfig, model: "Classifier") -> tuple[str, str]:
    """Return what a stem for one channel is of RGB's, and why, for the log."""
    from jaxmed.strategies import create_strategy
    from jaxmed.strategies.adapter import with_adapter

    chosen, adapted = config.model.stem, adapts_stem(config.model.weights)
    if chosen != "auto" or model.in_channels != 1 or not adapted:
        return ("sum", "") if chosen == "auto" else (chosen, "")
    train = config.train
    strategy = create_strategy(train.strategy, model, **train.options)
    if not strategy.phases:
        return "sum", f" The sum, because {train.strategy} leaves the stem as it is."
    phase = strategy.phases[0]
    if phase.freezes_stem(with_adapter(model, strategy.adapter)):
        return "sum", (
            f" The sum, because phase {phase.name!r} leaves the stem, or its "
            "BatchNorm statistics, as they are for RGB (model.stem)."
        )
    return "mean", f" The mean, because phase {phase.name!r} trains it (model.stem)."


def _check_loss(train: TrainConfig) -> None:
    if train.loss != "focal" and train.focal_gamma != TrainConfig.focal_gamma:
        raise InputError(
            f"train.focal_gamma is {train.focal_gamma}, and train.loss is "
            f"{train.loss}, which has no gamma. Set train.loss to focal, or leave "
            "train.focal_gamma out."
        )
    for name in ("mixup", "cutmix"):
        if getattr(train, name) > 0 and train.batch_size == 1:
            raise InputError(
                f"train.{name} mixes the images of a batch, and train.batch_size is "
                "1. Use larger batches."
            )


def _check_scale(model: ModelConfig) -> None:
    for name, numbers in (("mean", model.mean), ("std", model.std)):
        if len(numbers) not in (0, model.in_channels):
            raise InputError(
                f"model.{name} needs a number for each channel, of which "
                f"model.in_channels has {model.in_channels}; got {len(numbers)}."
            )
