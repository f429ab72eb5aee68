"""The compiled training step."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxmed.data.transforms.augmentation import augment_stored
from jaxmed.models.parameters import Arrays, merge, stats_of
from jaxmed.runtime.sharding import replicated_sharding, row_sharding
from jaxmed.training.loss import image_hits
from jaxmed.training.state import Batch, StepPlan, TrainState, average_decay

TrainStep = Callable[..., TrainState]


def make_train_step(definition: Any, plan: StepPlan) -> TrainStep:
    """Writes the training step of a phase, as a pure function, not yet compiled.

    Args:
        definition: the model's, from `begin_phase`.
        plan: what the step does.

    Returns:
        A function of the state and, by keyword, the `frozen` weights, the `batch`, a
        random `key`, and `scale`, a factor on the learning rates, one for all or one
        by path, that returns the next state. The loss is the weighted mean over the
        images of all batches, and 0 where none of their labels is known. The key and
        the state's step decide augmentation, mixing and dropout, which is off in a
        backbone that is frozen as a whole.
    """
    gradients_of = _gradients(definition, plan)

    def step(state, *, frozen, batch, key, scale=1.0):
        keys = jax.random.split(jax.random.fold_in(key, state.step), plan.accumulate)
        batches = (*batch, keys)

        def mean_gradients(params):
            batch_gradients = partial(gradients_of, params, frozen)
            if plan.accumulate == 1:
                summed, stats = batch_gradients(
                    state.stats, *(part[0] for part in batches)
                )
            else:
                summed, stats = _accumulate(batch_gradients, state, batches)
            # Without a known label all gradients are 0, and so is the weight.
            weight = jnp.where(summed["weight"] > 0, summed["weight"], 1)
            gradients = jax.tree.map(lambda g: g / weight, summed["gradients"])
            return gradients, summed, stats

        gradients, summed, stats = mean_gradients(state.params)
        if plan.phase.sam_rho:
            # The steepest of the points that are rho away, and the gradient there.
            squares = sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients))
            length = plan.phase.sam_rho / (jnp.sqrt(squares) + 1e-12)
            uphill = jax.tree.map(lambda w, g: w + length * g, state.params, gradients)
            gradients, _, _ = mean_gradients(uphill)
        transformation = plan.phase.transformation(state.params, plan.steps_per_epoch)
        updates, optimizer = transformation.update(
            gradients, state.optimizer, state.params
        )
        updates = jax.tree.map(
            lambda factor, below: jax.tree.map(lambda update: update * factor, below),
            scale,
            updates,
        )
        decay = average_decay(plan.ema, state.step)
        params = cast(Arrays, optax.apply_updates(state.params, updates))
        return TrainState(
            params=params,
            stats=stats,
            optimizer=optimizer,
            step=state.step + 1,
            totals=_add_totals(state, summed),
            average={
                path: decay * average + (1 - decay) * (params | stats)[path]
                for path, average in state.average.items()
            },
        )

    return step


def _add_totals(state: TrainState, summed: dict) -> Arrays:
    """Add a step's sums, and note the step if its loss is the first not finite.

    The weights are not looked at: that takes hundreds of small kernels, and what is
    wrong with them shows in the next step's loss. `check_finite` looks at the last
    step's.
    """
    before = dict(state.totals)
    diverged = before.pop("diverged")
    totals = {name: total + summed[name] for name, total in before.items()}
    first = ~jnp.isfinite(totals["loss"]) & (diverged < 0)
    return totals | {"diverged": jnp.where(first, state.step, diverged)}


def _gradients(definition: Any, plan: StepPlan) -> Callable:
    """Writes the gradients of one batch, summed over its images."""
    loss, task = plan.loss, plan.task

    def gradients_of(trained, frozen, stats, images, labels, mask, key):
        dropout_key, mixing_key = jax.random.split(key)
        inputs = _inputs(plan, images, key)
        shares = [(labels, 1.0)]
        if plan.mixing:
            inputs, partner, share = plan.mixing.mix(inputs, mask, mixing_key)
            shares = [(labels, share), (labels[partner], 1 - share)]
        frozen_backbone = not any(path.startswith("backbone.") for path in trained)

        def objective(params):
            model = merge(definition, params | frozen.params, stats | frozen.stats)
            logits = model(
                inputs,
                mask=mask,
                rngs=nnx.Rngs(dropout=dropout_key),
                frozen_backbone=frozen_backbone,
                start_stage=plan.start_stage,
            )
            losses, weights, hits, counts = 0.0, 0.0, 0.0, 0.0
            for targets, share in shares:
                own_losses, own_weights = loss(logits, targets, task)
                own_hits, own_counts = image_hits(logits, targets, task)
                losses += share * own_losses
                weights += share * own_weights
                hits += share * own_hits
                counts += share * own_counts
            all_stats = stats_of(model)
            sums = {
                "loss": (losses * mask).sum(),
                "weight": (weights * mask).sum(),
                "hits": (hits * mask).sum(),
                "images": (counts * mask).sum(),
            }
            return sums["loss"], (sums, {path: all_stats[path] for path in stats})

        gradients, (sums, stats) = jax.grad(objective, has_aux=True)(trained)
        return sums | {"gradients": gradients}, stats

    return gradients_of


def _inputs(plan: StepPlan, images: jax.Array, key: jax.Array) -> jax.Array:
    """Augments, where that is asked for, and normalizes a batch of images."""
    if plan.start_stage:
        return images.astype(jnp.float32)
    if not plan.augmentation:
        return plan.preprocessing(images)
    images = augment_stored(
        images,
        # Not 0 or 1: splitting the key in two gives those.
        jax.random.fold_in(key, 2),
        augmentation=plan.augmentation,
        preprocessing=plan.preprocessing,
    )
    return plan.preprocessing.normalize(images)


def _accumulate(batch_gradients: Callable, state: TrainState, batches: tuple) -> tuple:
    """Sums the gradients of several batches; BatchNorm's statistics follow each."""
    first = jax.tree.map(lambda part: part[0], batches)
    shapes, _ = jax.eval_shape(batch_gradients, state.stats, *first)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(carry, batch):
        summed, stats = carry
        more, following = batch_gradients(stats, *batch)
        # A batch of padding alone has no mean to normalize by: what it gives, which
        # is not a number, is left out.
        real = batch[2].any()
        more = jax.tree.map(lambda leaf: jnp.where(real, leaf, 0), more)
        stats = jax.tree.map(partial(jnp.where, real), following, stats)
        return (jax.tree.map(jnp.add, summed, more), stats), None

    # On a CPU without a loop, and without a branch above, in both of which XLA makes
    # gradients of convolutions ten times slower; elsewhere a loop compiles faster.
    def scan(batches, unroll):
        carry, _ = jax.lax.scan(add, (nothing, state.stats), batches, unroll=unroll)
        return carry

    summed, stats = jax.lax.platform_dependent(
        batches, cpu=partial(scan, unroll=True), default=partial(scan, unroll=1)
    )
    return summed, stats


# Programs are kept by what they were made of: seeds and arms that share a plan share
# them. The state's buffers are donated.


@lru_cache(maxsize=32)
def compiled_train_step(definition: Any, plan: StepPlan, mesh: Mesh) -> TrainStep:
    """Compiles the training step over a mesh, on images that lie on the devices.

    Returns:
        A function as of `make_train_step`, that takes in place of the batch a split's
        `images`, and the `indices` and `mask` of the batches in it, both
        (accumulate, rows).
    """
    return _compiled(_on_resident_images(definition, plan, mesh), mesh)


@lru_cache(maxsize=32)
def compiled_train_steps(definition: Any, plan: StepPlan, mesh: Mesh) -> TrainStep:
    """Compiles a loop of training steps, on images that lie on the devices.

    Returns:
        A function as of `compiled_train_step`, with another axis in front of `indices`
        and `mask`, and how many of it are steps, `count`; what is behind is not looked
        at, so that one program serves every number up to the axis's.
    """
    step = _on_resident_images(definition, plan, mesh)

    def steps(state, images, indices, mask, count, **kwargs):
        def body(number, state):
            return step(state, images, indices[number], mask[number], **kwargs)

        return jax.lax.fori_loop(0, count, body, state)

    return _compiled(steps, mesh)


@lru_cache(maxsize=32)
def compiled_batch_step(definition: Any, plan: StepPlan, mesh: Mesh) -> TrainStep:
    """Compiles the training step over a mesh, on batches cut by `row_sharding`."""
    step = make_train_step(definition, plan)

    def on_batch(state, batch, **kwargs):
        return step(state, batch=batch, **kwargs)

    return _compiled(on_batch, mesh)


def _on_resident_images(definition: Any, plan: StepPlan, mesh: Mesh) -> TrainStep:
    """Puts the gathering of images before the step."""
    step = make_train_step(definition, plan)

    def gathered(state, images, indices, mask, **kwargs):
        indices = jax.lax.with_sharding_constraint(indices, row_sharding(mesh))
        mask = jax.lax.with_sharding_constraint(mask, row_sharding(mesh))
        batch = Batch(images.images[indices], images.labels[indices], mask)
        return step(state, batch=batch, **kwargs)

    return gathered


def _compiled(step: TrainStep, mesh: Mesh) -> TrainStep:
    return jax.jit(step, out_shardings=replicated_sharding(mesh), donate_argnums=0)
