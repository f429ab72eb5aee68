"""The frozen stages before the first trained one, computed once in a phase.

Their output is the same in every epoch, unless images are augmented. So a phase of
several epochs computes it once, keeps it in memory or on disk, and trains and validates
on what it kept. The result is that of computing it anew, to rounding.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable
from errno import ENOSPC
from functools import lru_cache
from os import strerror
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import batches
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.transforms.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    augment_stored,
)
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.forward import eval_parts, largest_batch
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge
from jaxmed.runtime import distributed
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import (
    batch_sharding,
    empty_aligned,
    local_rows,
    replicate,
    replicated_sharding,
    shard_batch,
)
from jaxmed.strategies import Phase
from jaxmed.training.inputs.activation_cache.inputs import Inputs
from jaxmed.training.inputs.activation_cache.plan import (
    CachePlan,
    CacheSettings,
    plan_cache,
)

# Apart from the phases' numbers, which are folded into the same key.
VIEWS_KEY = 2**31 - 1


def cached_inputs(
    model: Classifier,
    phase: Phase,
    data: Dataset,
    *,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    mixed: bool,
    settings: CacheSettings,
    seed: int,
    mesh: Mesh,
) -> Inputs | None:
    """Caches what a phase can and should, and says so, or why not.

    Args:
        model: as the phase begins; its BatchNorm layers are put in eval mode.
        phase, data, preprocessing, augmentation, mixed, settings: see `plan_cache`.
        seed, mesh: see `fill_cache`.

    Returns:
        What the phase trains and validates on; None if that is the images.
    """
    plan = plan_cache(
        model,
        phase,
        data,
        preprocessing=preprocessing,
        augmentation=augmentation,
        mixed=mixed,
        settings=settings,
    )
    # Each process has its own memory and disk, and all train on the same.
    planned = distributed.all_agree(isinstance(plan, CachePlan))
    if isinstance(plan, CachePlan) and not planned:
        plan = "another process cannot keep it"
    if isinstance(plan, CachePlan):
        try:
            _say(phase, plan.describe())
            return fill_cache(
                plan,
                model,
                data,
                preprocessing=preprocessing,
                augmentation=augmentation,
                seed=seed,
                mesh=mesh,
            )
        except OSError as error:
            plan = f"{plan.folder} cannot be written to ({error.strerror})"
    if settings.mode != "off" and plan:
        _say(phase, f"Nothing is computed once: {plan}.")
    return None


def _say(phase: Phase, sentence: str) -> None:
    if distributed.is_process_zero():
        print(f"{phase.name}: {sentence}", file=sys.stderr, flush=True)


def fill_cache(
    plan: CachePlan,
    model: Classifier,
    data: Dataset,
    *,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    seed: int,
    mesh: Mesh,
) -> Inputs:
    """Runs the frozen stages over the train and val images.

    The same arguments give the same bits, so that a run that is gone on with ends as
    one that was never stopped.

    Args:
        plan: what `plan_cache` gave.
        model: as the phase begins; its BatchNorm layers are put in eval mode.
        data: whose images.
        preprocessing, augmentation: of the images.
        seed: with an image's place in the split it decides its views.
        mesh: the devices.

    Returns:
        What the phase trains and validates on.

    Raises:
        OSError: there is no room on disk.
    """
    definition, params, stats = eval_parts(model)
    weights = replicate(params | stats, mesh)
    key = replicate(jax.random.fold_in(jax.random.key(seed), VIEWS_KEY), mesh)
    batch_size = min(largest_batch(), max(plan.train, plan.val))

    def fill(rows: np.ndarray, split: Split, view: int, augmentation: Augmentation):
        run = _compiled(definition, plan, preprocessing, augmentation, mesh)
        order = np.arange(len(split), dtype=np.int32)
        for indices, mask in batches(order, batch_size, mesh.size):
            own, count = indices[local_rows(len(indices), mesh)], int(mask.sum())
            images, places = shard_batch((split.images[own], own), mesh)
            found = run(weights, images, places, np.int32(view), key)
            rows[indices[:count]] = np.asarray(found)[:count]
            advance(count)

    train, val = _make_room(plan)
    total = len(train) + len(val)
    with progress("Frozen part of the network, once", total, unit="images") as advance:
        for view in range(plan.views):
            rows = train[view * plan.train :][: plan.train]
            fill(rows, data.train, view, augmentation)
        fill(val, data.val, 0, NO_AUGMENTATION)
    labels = np.concatenate([data.train.labels] * plan.views)
    return Inputs(
        train,
        labels,
        val,
        start_stage=plan.start_stage,
        views=plan.views,
        on_disk=plan.folder is not None,
    )


def _make_room(plan: CachePlan) -> tuple[np.ndarray, np.ndarray]:
    """Allocates the rows of train and val, on every process or on none."""
    try:
        room = _allocate(plan, plan.views * plan.train), _allocate(plan, plan.val)
    except OSError:
        distributed.all_agree(False)
        raise
    if not distributed.all_agree(True):
        raise OSError(ENOSPC, f"{strerror(ENOSPC)} on another process's")
    return room


def _allocate(plan: CachePlan, rows: int) -> np.ndarray:
    shape = (rows, *plan.shape)
    if plan.folder is None:
        return empty_aligned(shape, plan.dtype)
    # A file without a name: nothing is left behind, however the program ends.
    with tempfile.TemporaryFile(dir=plan.folder) as file:
        if hasattr(os, "posix_fallocate"):
            # Writing to a map on a full disk would end the program.
            size = math.prod(shape) * jnp.dtype(plan.dtype).itemsize
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, plan.dtype, "r+", shape=shape)


@lru_cache(maxsize=32)
def _compiled(
    definition: Any,
    plan: CachePlan,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    mesh: Mesh,
) -> Callable[..., jax.Array]:
    """Compile the stages before the plan's start stage."""
    whole, cut = replicated_sharding(mesh), batch_sharding(mesh)

    def entering(weights, images, indices, view, key):
        if augmentation:
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
            keys = jax.vmap(lambda one: jax.random.fold_in(one, view))(keys)
            images = preprocessing.normalize(
                augment_stored(
                    images,
                    keys,
                    augmentation=augmentation,
                    preprocessing=preprocessing,
                )
            )
        else:
            images = preprocessing(images)
        model = merge(definition, weights, {})
        return model.stage_input(plan.start_stage, images).astype(plan.dtype)

    return jax.jit(
        entering, in_shardings=(whole, cut, cut, whole, whole), out_shardings=whole
    )
