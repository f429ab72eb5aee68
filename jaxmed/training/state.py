"""State of a training step: its plan, weights, running sums, and images."""

import itertools
import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxmed.data.transforms.augmentation import NO_AUGMENTATION, Augmentation
from jaxmed.data.transforms.mixup import NO_MIXING, Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, split
from jaxmed.strategies import Phase
from jaxmed.training.config import TrainingConfig
from jaxmed.training.loss import CROSS_ENTROPY, Loss


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """Everything that a training step depends on beside the model; hashable.

    Attributes:
        phase: gives the optimizer.
        preprocessing: uint8 images to network input.
        task: see `jaxmed.data.dataset.Task`.
        loss: what is minimized.
        augmentation: what happens to images before they are normalized and mixed.
        mixing: mixup and cutmix.
        accumulate: batches whose gradients make one optimizer step, at least 1. They
            add up to the gradient of one batch of all their images; BatchNorm sees
            them one by one.
        ema: the decay of an exponential moving average of the weights, in [0, 1); 0
            means none. With d it is d times itself plus 1 - d times the weights after
            every step, statistics included, as timm's ModelEmaV2, and d grows to
            `ema`, see `average_decay`.
        steps_per_epoch: optimizer steps, which schedules count by.
        start_stage: the stage that the step begins with, if its batches are cached
            activations, the input of that stage; see
            `jaxmed.training.inputs.activation_cache`.
            Preprocessing, augmentation and mixing are then not for the step to do.
    """

    phase: Phase
    preprocessing: Preprocessing
    task: str
    loss: Loss = CROSS_ENTROPY
    augmentation: Augmentation = NO_AUGMENTATION
    mixing: Mixing = NO_MIXING
    accumulate: int = 1
    ema: float = 0.0
    steps_per_epoch: int = 1
    start_stage: str | None = None

    @classmethod
    def of(cls, config: TrainingConfig, **overrides: Any) -> "StepPlan":
        """Make a plan of the options that a step depends on, and of what else it needs.

        A plan leaves out all other options, so that programs which differ in a seed
        alone are one.
        """
        names = {field.name for field in fields(cls)} & {
            field.name for field in fields(config)
        }
        return cls(**{name: getattr(config, name) for name in names}, **overrides)


class TrainState(NamedTuple):
    """The arrays that a training step changes.

    Attributes:
        params: the trained parameters, by path.
        stats: the running statistics of BatchNorm layers in training mode, by path.
        optimizer: the optimizer's state; it knows the trained parameters only.
        step: optimizer steps done since the phase began, int32 ().
        totals: sums over images since they were last reset: "loss", the "weight" in
            it, "hits" and "images", float32 () each; an image whose labels are known in
            part counts by their share. And "diverged", int32 (), the first of the
            phase's steps since then whose loss is not finite, -1 if all are.
        average: the moving average of `params` and `stats`, by path; empty without.
    """

    params: Arrays
    stats: Arrays
    optimizer: optax.OptState
    step: jax.Array
    totals: Arrays
    average: Arrays


class Frozen(NamedTuple):
    """The weights that a training step reads and never changes, by path."""

    params: Arrays
    stats: Arrays


class Images(NamedTuple):
    """A split: uint8 (n, h, w, c), and int32 labels (n,) or (n, k).

    With `StepPlan.start_stage`, the images are cached activations, that stage's input.
    """

    images: ArrayLike
    labels: ArrayLike


class Batch(NamedTuple):
    """The images of one training step, in `StepPlan.accumulate` batches of some rows.

    Attributes:
        images: uint8 (accumulate, rows, h, w, c).
        labels: int32 (accumulate, rows) or (accumulate, rows, k).
        mask: float32 (accumulate, rows), 1 for images and 0 for padding.
    """

    images: ArrayLike
    labels: ArrayLike
    mask: ArrayLike


def zero_totals() -> Arrays:
    """Return zero-initialized totals."""
    sums = {name: jnp.zeros(()) for name in ("loss", "weight", "hits", "images")}
    return sums | {"diverged": jnp.full((), -1, jnp.int32)}


def begin_phase(model: Classifier, plan: StepPlan) -> tuple[Any, TrainState, Frozen]:
    """Split a model into the state that a phase trains, and its frozen weights.

    Args:
        model: its BatchNorm layers are put in the phase's modes.
        plan: says what is trained, and whether an average is kept.

    Returns:
        The model's definition, the state to begin with, and the frozen weights.
    """
    norms = plan.phase.training_norms(model)
    set_training_norms(model, norms)
    definition, params, stats = split(model)
    trained = plan.phase.assign(params)
    live_params = {path: params[path] for path in trained}
    live_stats = {
        path: array for path, array in stats.items() if path.rpartition(".")[0] in norms
    }
    optimizer = plan.phase.transformation(trained, plan.steps_per_epoch)
    state = TrainState(
        params=live_params,
        stats=live_stats,
        optimizer=optimizer.init(live_params),
        step=jnp.zeros((), jnp.int32),
        totals=zero_totals(),
        # Copies, because a step gives each buffer of the state away once.
        average=jax.tree.map(jnp.copy, live_params | live_stats) if plan.ema else {},
    )
    frozen = Frozen(
        {path: array for path, array in params.items() if path not in live_params},
        {path: array for path, array in stats.items() if path not in live_stats},
    )
    return definition, state, frozen


def average_decay(ema: float, step: ArrayLike) -> Any:
    """Return the decay of the average of the weights at an optimizer step.

    min(ema, (1 + step) / (10 + step)), the warm-up of TensorFlow's
    `ExponentialMovingAverage`, which EfficientNet was trained with. Without it the
    average of a short training is the weights it began with: after 100 steps of
    0.9998, for 98 %.

    Args:
        ema: what it grows to.
        step: counted from 0 since the phase began.
    """
    done = jnp.asarray(step, float)
    return jnp.minimum(ema, (1 + done) / (10 + done))


def describe_average(ema: float, steps: int) -> str:
    """Describe the average that a phase too short for it ends with; else nothing.

    Args:
        ema: see `StepPlan`.
        steps: optimizer steps of the phase.
    """
    last = min(ema, steps / (9 + steps))
    if last == ema:
        return ""
    decays = (min(ema, (1 + step) / (10 + step)) for step in range(steps))
    # The smaller it is, the sooner it is below what a sentence shows.
    start = math.prod(itertools.islice(decays, 20))
    left = f", with {start:.0%} of what it began with" if start >= 0.01 else ""
    reached = math.ceil((10 * ema - 1) / (1 - ema) - 1e-6) + 1
    return (
        f"The average of the weights warms up: after the {steps:,} steps its decay is "
        f"{last:.3g}, so it is of about the last {1 / (1 - last):,.0f} steps{left}. "
        f"ema {ema:g} is reached after {reached:,}."
    )


def all_weights(state: TrainState, frozen: Frozen) -> Arrays:
    """Return the weights to validate and save, by path: the average if there is one."""
    live = state.average or state.params | state.stats
    return live | frozen.params | frozen.stats


def beside_weights(state: TrainState) -> tuple:
    """Return what a checkpoint needs beside `all_weights` to resume, a pytree."""
    live = (state.params, state.stats) if state.average else ()
    return state.optimizer, state.step, live, state.totals


def restore(state: TrainState, saved: tuple) -> TrainState:
    """Put back what `beside_weights` gave; the weights are in the state already."""
    optimizer, step, live, totals = saved
    params, stats = live or (state.params, state.stats)
    return state._replace(
        optimizer=optimizer, step=step, params=params, stats=stats, totals=totals
    )
