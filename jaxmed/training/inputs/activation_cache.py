"""Cached activations of frozen layers: the input of the first trained stage.

It is the same in every epoch, unless images are augmented. So a phase of several epochs
computes it once, keeps it in memory or on disk, and trains and validates on what it
kept. The result is that of computing it anew, to rounding.
"""

import math
import os
import tempfile
from collections.abc import Callable
from errno import ENOSPC
from functools import lru_cache
from os import strerror
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import map_batches
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.transforms.augmentation import Augmentation, augment_stored
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.activations import Advance, FrozenStages, fill
from jaxmed.inference.forward import eval_parts
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
from jaxmed.training.config import TrainingConfig
from jaxmed.training.inputs.cache_plan import CachePlan

# Apart from the phases' numbers, which are folded into the same key.
VIEWS_KEY = 2**31 - 1


class CachedActivations(NamedTuple):
    """Activations of the train and val images, of `CachePlan.shape` each.

    Row v · n + i of `train` is view v of image i, of n images; `val` has one view.
    """

    train: np.ndarray
    val: np.ndarray


def fill_cache(
    plan: CachePlan,
    model: Classifier,
    data: Dataset,
    config: TrainingConfig,
    *,
    mesh: Mesh,
) -> CachedActivations:
    """Run the frozen stages over the train and val images.

    The same arguments give the same bits, so that a run that is gone on with ends as
    one that was never stopped.

    Args:
        plan: what `plan_cache` gave.
        model: as the phase begins; its BatchNorm layers are put in eval mode.
        data: whose images.
        config: whose preprocessing and augmentation; whose seed, which decides an
            image's views with its index in the split; and whose store, which may have
            some of it already.
        mesh: the devices.

    Raises:
        OSError: there is no room on disk, on this process's or another's.
    """
    stages = FrozenStages.of(
        model, plan.start_stage, config.preprocessing, mesh, plan.dtype
    )
    store = config.cache.store
    # Views are of one seed, and nobody else's.
    shared = store if store and not config.augmentation else None
    train = shared.recall(stages, data.train) if shared else None
    val = store.recall(stages, data.val) if store else None
    if train is None or val is None:
        cached = _make_room(plan, train, val)
    else:
        cached = CachedActivations(train, val)

    total = len(cached.train) + len(cached.val)
    with progress("Caching frozen layers", total, unit="images") as advance:
        if train is not None:
            advance(len(train))
        elif config.augmentation:
            _fill_views(cached.train, plan, stages, model, data.train, config, advance)
        else:
            fill(stages, data.train, cached.train, store, advance)
        if val is not None:
            advance(len(val))
        else:
            fill(stages, data.val, cached.val, store, advance)
    return cached


def _fill_views(
    rows: np.ndarray,
    plan: CachePlan,
    stages: FrozenStages,
    model: Classifier,
    train: Split,
    config: TrainingConfig,
    advance: Advance,
) -> None:
    """Fill in one view of all train images after the other, each drawn once."""
    mesh = stages.mesh
    key = jax.random.fold_in(jax.random.key(config.seed), VIEWS_KEY)
    key = replicate(key, mesh)
    run = _compiled_views(
        eval_parts(model).definition,
        plan,
        config.preprocessing,
        config.augmentation,
        mesh,
    )
    for view in range(plan.views):
        of_view = rows[view * plan.train :][: plan.train]

        def compute(indices, view=view):
            local = indices[local_rows(len(indices), mesh)]
            batch, local = shard_batch((train.images[local], local), mesh)
            return run(stages.weights, batch, local, np.int32(view), key)

        for indices, activations in map_batches(
            compute, len(train), stages.batch_size, mesh.size
        ):
            of_view[indices] = activations
            advance(len(indices))


def _make_room(
    plan: CachePlan, train: np.ndarray | None, val: np.ndarray | None
) -> CachedActivations:
    """Allocate the rows of train and val that are not there yet, or raise OSError.

    On every process or on none.
    """
    try:
        if train is None:
            train = _allocate(plan, plan.views * plan.train)
        if val is None:
            val = _allocate(plan, plan.val)
    except OSError:
        distributed.all_agree(False)
        raise
    if not distributed.all_agree(True):
        raise OSError(ENOSPC, f"{strerror(ENOSPC)} on another process's")
    return CachedActivations(train, val)


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
def _compiled_views(
    definition: Any,
    plan: CachePlan,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    mesh: Mesh,
) -> Callable[..., jax.Array]:
    """Compile the stages before the plan's start stage, of augmented images."""
    replicated, sharded = replicated_sharding(mesh), batch_sharding(mesh)

    def frozen_stages(weights, images, indices, view, key):
        # A key of its own for each image and view, whatever batch they are in.
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, view))(keys)
        images = augment_stored(
            images, keys, augmentation=augmentation, preprocessing=preprocessing
        )
        model = merge(definition, weights, {})
        inputs = model.stage_input(plan.start_stage, preprocessing.normalize(images))
        return inputs.astype(plan.dtype)

    return jax.jit(
        frozen_stages,
        in_shardings=(replicated, sharded, sharded, replicated, replicated),
        out_shardings=replicated,
    )
