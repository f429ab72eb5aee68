"""Fine-tuning: a strategy carried out on a data set."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from jaxmed.checkpoints.checkpoint import open_checkpoints
from jaxmed.data.batching import check_sampling
from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.augmentation import NO_AUGMENTATION, Augmentation
from jaxmed.data.transforms.mixup import NO_MIXING, Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError, unknown
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.models.precision import resolve_precision, set_precision
from jaxmed.runtime.sharding import Devices, data_mesh
from jaxmed.strategies import Strategy, create_strategy
from jaxmed.training.checks import check_batches, check_shapes, take_arguments
from jaxmed.training.inputs.activation_cache.plan import CacheSettings
from jaxmed.training.inputs.resident import check_feed
from jaxmed.training.loop import Loop
from jaxmed.training.loss import CROSS_ENTROPY, Loss
from jaxmed.training.model_selection import SELECTORS, WATCHED, check_defined


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training leaves beside the weights.

    Attributes:
        history: a dict per epoch, with the columns of history.csv.
        best: the epoch whose weights the model holds now: "phase", "epoch" (counted
            from 1 over all phases), "metric" and its "value".
        strategy: as it was carried out.
    """

    history: list[dict]
    best: dict
    strategy: Strategy


def fit(
    model: Classifier,
    data: Dataset,
    strategy: str | Strategy | Callable[[Classifier], Strategy],
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 32,
    seed: int = 0,
    select: str = "val_auroc",
    loss: Loss | str = CROSS_ENTROPY,
    augmentation: Augmentation | str = NO_AUGMENTATION,
    mixing: Mixing = NO_MIXING,
    sampling: str = "shuffle",
    accumulate: int = 1,
    ema: float = 0.0,
    feed: str = "auto",
    precision: str = "auto",
    cache: CacheSettings | str = CacheSettings(),  # noqa: B008
    checkpoints: Path | str | None = None,
    checkpoint_steps: int = 1000,
    devices: Devices | None = None,
) -> FitResult:
    """Fine-tunes a model in place.

    Args:
        model: starts from the weights it holds; ends with those of the best epoch.
            It has a logit per class, or for a binary task a single one.
        data: trains on `train` and chooses the best epoch on `val`; `test` is not
            looked at.
        strategy: a preset's name, a strategy, or a function of the model.
        preprocessing: uint8 images to network input; by default resized to
            `data.image_size` as `data.resizing` says, and normalized as
            `preprocessing_of` does.
        batch_size: images the network sees at once, over all devices; at least 1. More
            than there are count as all of them.
        seed: decides the order and draw of images, augmentation, mixing and dropout.
        select: what the best epoch has: the lowest "val_loss", or the highest of
            another of `jaxmed.training.model_selection.SELECTORS`. The earliest of
            equals is taken.
        loss: what is minimized, or its name; "val_loss" is the same loss.
        augmentation: what is done to training images, or the name of a preset, such as
            "xray", see `jaxmed.data.create_augmentation`; validation sees them as they
            are.
        mixing: mixup and cutmix; the accuracy on train images is then shared between
            the labels as the loss is.
        sampling: "shuffle", every train image once an epoch; or "balanced", as many,
            drawn with replacement so that classes are alike, see `drawn_balanced`.
            Loss and accuracy on train images are then those of the drawn ones.
        accumulate: batches whose gradients make one optimizer step, at least 1.
        ema: the decay of a moving average of the weights, in [0, 1), which is then
            what is validated, kept and used; 0 for none. It grows to this in the
            first steps of a phase, see `jaxmed.training.state.average_decay`.
        feed: where train images are while they are trained on, which changes no bit:
            "resident", on the devices; "stream", read ahead from the host's memory or
            from disk; "auto", on the devices if they take no more than a part of their
            memory, see `jaxmed.runtime.memory`.
        precision: "float32"; "bfloat16", which layers compute in while parameters,
            statistics and loss are float32, see `jaxmed.models.precision`; or "auto",
            which is bfloat16 where that is fast. The model keeps it.
        cache: whether frozen stages are computed once in a phase, not in every epoch;
            or its mode, such as "off".
        checkpoints: a folder to save every epoch in. If it holds some of the same
            training, that is gone on with, and ends as if it had not been stopped.
        checkpoint_steps: optimizer steps after which an epoch is saved that is not
            over yet, and again and again; 0 for never.
        devices: by default all there are; the result does not depend on them.

    Raises:
        InputError: an argument out of its range, another number of classes than the
            model's, a strategy that does not fit the model, images too small for it,
            a metric to choose by that the validation split does not define, a batch
            of one value per channel for BatchNorm, checkpoints of another training,
            damaged or that cannot be written, or a loss that became infinite or not a
            number.
    """
    taken = take_arguments(
        model=model, data=data, preprocessing=preprocessing, batch_size=batch_size,
        seed=seed, select=select, loss=loss, augmentation=augmentation, mixing=mixing,
        sampling=sampling, accumulate=accumulate, ema=ema, feed=feed,
        precision=precision, cache=cache, checkpoint_steps=checkpoint_steps,
    )  # fmt: skip
    if select not in SELECTORS:
        raise unknown("way to choose the best epoch", select, SELECTORS)
    if not 0 <= ema < 1:
        raise InputError(f"ema must be in [0, 1), got {ema}.")
    if checkpoint_steps < 0:
        raise InputError(
            f"checkpoint_steps must be at least 0, got {checkpoint_steps}."
        )
    batch_size, accumulate = check_batches(model, data, batch_size, accumulate)
    check_sampling(sampling, data.task)
    check_feed(feed)
    mesh = data_mesh(devices)
    set_precision(model, resolve_precision(precision, mesh.devices.flat[0]))
    strategy = as_strategy(strategy, model)
    _check_watched(strategy)
    check_defined(data, strategy, select)
    preprocessing = preprocessing or preprocessing_of(
        model, data.image_size, data.resizing
    )
    check_shapes(
        model, strategy, preprocessing, images=len(data.train), batch_size=batch_size
    )
    with open_checkpoints(Path(checkpoints)) if checkpoints else nullcontext() as saved:
        loop = Loop(
            model=model,
            data=data,
            strategy=strategy,
            preprocessing=preprocessing,
            loss=taken.loss,
            augmentation=taken.augmentation,
            mixing=mixing,
            sampling=sampling,
            batch_size=batch_size,
            accumulate=accumulate,
            ema=ema,
            seed=seed,
            select=select,
            feed=feed,
            saved=saved,
            checkpoint_steps=checkpoint_steps,
            mesh=mesh,
            cache=taken.cache,
        )
        loop.run()
    done = loop.journal
    return FitResult(history=done.history, best=done.best, strategy=strategy)


def as_strategy(
    strategy: str | Strategy | Callable[[Classifier], Strategy], model: Classifier
) -> Strategy:
    """Makes a strategy of what `fit` takes, and checks that it fits the model.

    Raises:
        InputError: there is none of that name, it is something else, or it does not
            fit.
    """
    given = strategy
    if isinstance(strategy, str):
        strategy = create_strategy(strategy, model)
    elif callable(strategy):
        strategy = strategy(model)
    if not isinstance(strategy, Strategy):
        returned = f"which returned {strategy!r}" if strategy is not given else ""
        raise InputError(
            "strategy must be a name, a jaxmed.strategies.Strategy or a function of "
            f"the model that returns one, got {given!r}{returned and ', ' + returned}."
        )
    strategy.summary(model)
    if not strategy.phases:
        raise InputError(
            f"The strategy {strategy.name} trains no network: it is for the arm of a "
            "recipe, which `run` takes."
        )
    return strategy


def _check_watched(strategy: Strategy) -> None:
    for phase in strategy.phases:
        if phase.schedule.watch not in WATCHED:
            raise unknown(
                "column to watch for a plateau", phase.schedule.watch, WATCHED
            )
