"""The batch-size finder: what a training step takes and gives at growing sizes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.augmentation import NO_AUGMENTATION, Augmentation
from jaxmed.data.transforms.mixup import NO_MIXING, Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.models.precision import resolve_precision, set_precision
from jaxmed.runtime.memory import host_memory, image_budget
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import Devices, data_mesh, replicate, shard_batch
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.checks import check_batches, check_shapes, take_arguments
from jaxmed.training.fit import as_strategy
from jaxmed.training.loss import CROSS_ENTROPY, Loss
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
    strategy: str | Strategy | Callable[[Classifier], Strategy],
    *,
    preprocessing: Preprocessing | None = None,
    loss: Loss | str = CROSS_ENTROPY,
    augmentation: Augmentation | str = NO_AUGMENTATION,
    mixing: Mixing = NO_MIXING,
    precision: str = "auto",
    devices: Devices | None = None,
) -> tuple[Phase, list[BatchMeasure]]:
    """Doubles the batch until its step does not fit the device, or the data ends.

    The step is that of the phase which trains the most parameters, without cached
    activations, in the memory that is free now.

    Args:
        model: stays as it is, bit for bit.
        data: only `train` is looked at.
        strategy, preprocessing, loss, augmentation, mixing, precision, devices: as of
            `fit`.

    Returns:
        The phase, and a measure for every size; the last one may not fit.

    Raises:
        InputError: an argument that `fit` would refuse.
    """
    taken = take_arguments(
        model=model, data=data, preprocessing=preprocessing, loss=loss,
        augmentation=augmentation, mixing=mixing, precision=precision,
    )  # fmt: skip
    check_batches(model, data, SMALLEST, 1)
    # A copy, because a phase puts BatchNorm layers in its modes.
    model, mesh = merge(*split(model)), data_mesh(devices)
    set_precision(model, resolve_precision(precision, mesh.devices.flat[0]))
    strategy, count = as_strategy(strategy, model), len(data.train)
    preprocessing = preprocessing or preprocessing_of(
        model, data.image_size, data.resizing
    )
    check_shapes(model, strategy, preprocessing, images=count, batch_size=count)
    sizes = {phase.name: _trained(phase, model) for phase in strategy.phases}
    phase = max(strategy.phases, key=lambda phase: sizes[phase.name])
    plan = StepPlan(
        phase=phase,
        preprocessing=preprocessing,
        task=data.task,
        loss=taken.loss,
        augmentation=taken.augmentation,
        mixing=mixing,
    )
    waiting = data.train.images.nbytes
    waiting = waiting if waiting <= image_budget(mesh) else 0
    room, size, found = free_memory(mesh), min(SMALLEST, count), []
    total = (count // size).bit_length()
    with progress("Batch sizes", total, unit="sizes") as advance:
        while size <= count:
            advance(0, images=size)
            found.append(_measure(model, plan, data, size, mesh, waiting, room))
            advance(1)
            if found[-1].images_per_second is None:
                break
            size *= 2
    return phase, found


def free_memory(mesh: Mesh) -> int:
    """Returns the bytes that a step may take on a device, or on a host as a whole."""
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free, table = host_memory(), Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":") for line in table.read_text().splitlines())
        if "MemAvailable" in lines:
            free = min(free, 1024 * int(lines["MemAvailable"].split()[0]))
    return free // len(mesh.local_devices)


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
    others = {
        "frozen": replicate(frozen, mesh),
        "key": replicate(jax.random.key(0), mesh),
        "scale": np.float32(1),
    }
    program: Any = compiled_batch_step(definition, plan, mesh)
    measure = partial(BatchMeasure, batch_size=size)
    memory = waiting
    try:
        step = program.lower(state, batch, **others).compile()
        if known := step.memory_analysis():
            memory += known.argument_size_in_bytes + known.temp_size_in_bytes
            memory += known.output_size_in_bytes - known.alias_size_in_bytes
        if memory > room:
            return measure(memory=memory, images_per_second=None)
        state = jax.block_until_ready(step(state, batch, **others))
        began, steps = time.perf_counter(), 0
        while steps < FEWEST or time.perf_counter() - began < SECONDS:
            state = jax.block_until_ready(step(state, batch, **others))
            steps += 1
        speed = steps * size / (time.perf_counter() - began)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return measure(memory=memory, images_per_second=None)
    return measure(memory=memory, images_per_second=speed)
