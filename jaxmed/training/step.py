"""The compiled steps: one of training, one of prediction."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.preprocess import Preprocessing
from jaxmed.models.classifier import Classifier
from jaxmed.models.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, Parts, merge, split, stats_of
from jaxmed.strategies.strategy import Phase
from jaxmed.training.objective import image_hits, image_losses
from jaxmed.training.sharding import over_batch, replicated


class TrainState(NamedTuple):
    """What a training step changes.

    Attributes:
        params: the trained parameters, by path.
        stats: the running statistics of BatchNorm layers in training mode, by path.
        optimizer: the optimiser's state; it knows the trained parameters only.
        step: optimiser steps done since the phase began, int32 ().
        totals: sums since they were last reset: "loss" and "hits" over images, and
            "images", float32 () each.
    """

    params: Arrays
    stats: Arrays
    optimizer: optax.OptState
    step: jax.Array
    totals: Arrays


class Frozen(NamedTuple):
    """What a training step reads and never changes: the other weights, by path."""

    params: Arrays
    stats: Arrays


class Images(NamedTuple):
    """A split on the devices: uint8 (n, h, w, c), and int32 labels (n,) or (n, k)."""

    images: ArrayLike
    labels: ArrayLike


def zero_totals() -> Arrays:
    """Returns the totals of no image."""
    return {name: jnp.zeros(()) for name in ("loss", "hits", "images")}


def begin_phase(model: Classifier, phase: Phase) -> tuple[Any, TrainState, Frozen]:
    """Divides a model into what a phase trains and what it leaves alone.

    Args:
        model: its BatchNorm layers are put in the phase's modes.
        phase: says what is trained.

    Returns:
        The model's definition, the state to begin with, and the frozen weights.
    """
    norms = phase.training_norms(model)
    set_training_norms(model, norms)
    definition, params, stats = split(model)
    trained = phase.assign(params)
    live_params = {path: params[path] for path in trained}
    live_stats = {
        path: array for path, array in stats.items() if path.rpartition(".")[0] in norms
    }
    state = TrainState(
        params=live_params,
        stats=live_stats,
        optimizer=phase.transformation(trained).init(live_params),
        step=jnp.zeros((), jnp.int32),
        totals=zero_totals(),
    )
    frozen = Frozen(
        {path: array for path, array in params.items() if path not in live_params},
        {path: array for path, array in stats.items() if path not in live_stats},
    )
    return definition, state, frozen


TrainStep = Callable[..., TrainState]


def make_train_step(
    definition: Any, phase: Phase, preprocessing: Preprocessing, task: str
) -> TrainStep:
    """Writes the training step of a phase, as a pure function, not yet compiled.

    Args:
        definition: the model's, from `begin_phase`.
        phase: gives the optimiser.
        preprocessing: uint8 images to network input.
        task: see `jaxmed.data.dataset.Task`.

    Returns:
        A function of the state and, by keyword, the `frozen` weights, the split's
        `images`, the `indices` (rows,) and `mask` (rows,) of a batch, and a random
        `key`, that returns the next state. The loss is the mean over the batch's
        images. The key and the state's step decide dropout, which is off in a
        backbone that is frozen as a whole.
    """

    def step(state, *, frozen, images, indices, mask, key):
        inputs = preprocessing(images.images[indices])
        labels = images.labels[indices]
        dropout_key = jax.random.fold_in(key, state.step)
        frozen_backbone = not any(p.startswith("backbone.") for p in state.params)

        def objective(params):
            model = merge(
                definition, params | frozen.params, state.stats | frozen.stats
            )
            logits = model(
                inputs,
                mask=mask,
                rngs=nnx.Rngs(dropout=dropout_key),
                frozen_backbone=frozen_backbone,
            )
            losses = image_losses(logits, labels, task) * mask
            every = stats_of(model)
            stats = {path: every[path] for path in state.stats}
            return losses.sum() / mask.sum(), (losses.sum(), logits, stats)

        gradients, (loss, logits, stats) = jax.grad(objective, has_aux=True)(
            state.params
        )
        transformation = phase.transformation(state.params)
        updates, optimizer = transformation.update(
            gradients, state.optimizer, state.params
        )
        hits = (image_hits(logits, labels, task) * mask).sum()
        batch = {"loss": loss, "hits": hits, "images": mask.sum()}
        return TrainState(
            params=cast(Arrays, optax.apply_updates(state.params, updates)),
            stats=stats,
            optimizer=optimizer,
            step=state.step + 1,
            totals=jax.tree.map(jnp.add, state.totals, batch),
        )

    return step


@lru_cache(maxsize=32)
def compiled_train_step(
    definition: Any, phase: Phase, preprocessing: Preprocessing, task: str, mesh: Mesh
) -> TrainStep:
    """Compiles the training step over a mesh; the state's buffers are donated.

    Kept by its arguments: seeds and arms that share a phase share a program.
    """
    whole, cut = replicated(mesh), over_batch(mesh)
    step = make_train_step(definition, phase, preprocessing, task)

    def sharded(state, indices, mask, **others):
        indices = jax.lax.with_sharding_constraint(indices, cut)
        mask = jax.lax.with_sharding_constraint(mask, cut)
        return step(state, indices=indices, mask=mask, **others)

    return jax.jit(sharded, out_shardings=whole, donate_argnums=0)


@lru_cache(maxsize=32)
def compiled_logits(
    definition: Any, preprocessing: Preprocessing, mesh: Mesh
) -> Callable[[Arrays, ArrayLike], jax.Array]:
    """Compiles prediction: all weights by path, and uint8 images, to logits."""
    whole, cut = replicated(mesh), over_batch(mesh)

    def logits(weights, images):
        return merge(definition, weights, {})(preprocessing(images))

    return jax.jit(logits, in_shardings=(whole, cut), out_shardings=whole)


def eval_parts(model: Classifier) -> Parts:
    """Takes a model apart with every BatchNorm layer in eval mode."""
    set_training_norms(model, ())
    return split(model)
