"""The batch-size finder: what a training step takes and gives at growing sizes."""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.dataset import Dataset
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.runtime.memory import free_memory, image_budget
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import Devices, data_mesh, replicate, shard_batch
from jaxmed.strategies import Phase
from jaxmed.training.checks import AnyStrategy, check_phases, prepare_training
from jaxmed.training.config import TrainingConfig, check_type
from jaxmed.training.state import Batch, StepPlan, begin_phase
from jaxmed.training.step import compiled_batch_step

# Images of the smallest batch that is tried; each next one has twice as many.
SMALLEST = 8
# How long the steps of a size are timed, and how many there are at least.
SECONDS, FEWEST = 1.0, 2


@dataclass(frozen=True, kw_only=True)
class BatchMeasure:
    """What a training step with batches of one size takes and gives.

    Attributes:
        batch_size: images, over all devices.
        memory: bytes that the compiled step takes on a device, images that wait there
            included.
        images_per_second: of the step alone; None if the step does not fit.
    """

    batch_size: int
    memory: int
    images_per_second: float | None


def find_batch_sizes(
    model: Classifier,
    data: Dataset,
    strategy: AnyStrategy,
    config: TrainingConfig | None = None,
    *,
    devices: Devices | None = None,
    **options: Any,
) -> tuple[Phase, list[BatchMeasure]]:
    """Doubles the batch until its step does not fit the device, or the data ends.

    The step is that of the phase which trains the most parameters, without cached
    activations, in the memory that is free now.

    Args:
        model: stays as it is, bit for bit.
        data: only `train` is looked at.
        strategy, config, devices, **options: as of `fit`; the batches are the finder's.

    Returns:
        The phase, and a measure for every size; the last one may not fit.

    Raises:
        InputError: an argument that `fit` would refuse.
    """
    config, mesh = TrainingConfig.of(config, options), data_mesh(devices)
    check_type(Classifier, model, "model")
    check_type(Dataset, data, "data")
    # A copy, because a phase puts BatchNorm layers in its modes.
    model, count = merge(*split(model)), len(data.train)
    config = replace(config, batch_size=count, accumulate=1)
    strategy, config = prepare_training(model, data, strategy, config, mesh=mesh)
    check_phases(strategy)
    sizes = {phase.name: _trained(phase, model) for phase in strategy.phases}
    phase = max(strategy.phases, key=lambda phase: sizes[phase.name])
    plan = replace(StepPlan.of(config, phase=phase, task=data.task), ema=0.0)
    waiting = data.train.images.nbytes
    waiting = waiting if waiting <= image_budget(mesh) else 0
    room, size, measures = free_memory(mesh), min(SMALLEST, count), []
    total = (count // size).bit_length()
    with progress("Batch sizes", total, unit="sizes") as advance:
        while size <= count:
            advance(0, images=size)
            measures.append(_measure(model, plan, data, size, mesh, waiting, room))
            advance(1)
            if measures[-1].images_per_second is None:
                break
            size *= 2
    return phase, measures


def _trained(phase: Phase, model: Classifier) -> int:
    params = split(model).params
    return sum(params[path].size for path in phase.assign(params))


def _measure(
    model: Classifier,
    plan: StepPlan,
    data: Dataset,
    size: int,
    mesh: Mesh,
    waiting: int,
    room: int,
) -> BatchMeasure:
    definition, state, frozen = begin_phase(model, plan)
    state = replicate(state, mesh)
    # Rows are cut over the devices, so that the last ones may be padding.
    rows = -(-size // mesh.size) * mesh.size
    order = np.arange(rows) % size
    mask = (np.arange(rows) < size).astype(np.float32)
    images, labels = data.train.images[order], data.train.labels[order]
    batch = shard_batch(Batch(images[None], labels[None], mask[None]), mesh, axis=1)
    kwargs = {
        "frozen": replicate(frozen, mesh),
        "key": replicate(jax.random.key(0), mesh),
        "scale": np.float32(1),
    }
    program: Any = compiled_batch_step(definition, plan, mesh)
    measure = partial(BatchMeasure, batch_size=size)
    memory = waiting
    try:
        step = program.lower(state, batch, **kwargs).compile()
        if known := step.memory_analysis():
            memory += known.argument_size_in_bytes + known.temp_size_in_bytes
            memory += known.output_size_in_bytes - known.alias_size_in_bytes
        if memory > room:
            return measure(memory=memory, images_per_second=None)
        state = jax.block_until_ready(step(state, batch, **kwargs))
        began, steps = time.perf_counter(), 0
        while steps < FEWEST or time.perf_counter() - began < SECONDS:
            state = jax.block_until_ready(step(state, batch, **kwargs))
            steps += 1
        speed = steps * size / (time.perf_counter() - began)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return measure(memory=memory, images_per_second=None)
    return measure(memory=memory, images_per_second=speed)
