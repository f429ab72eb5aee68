"""One program over all devices: data-parallel by a mesh with one axis, "data".

`jax.jit` over a mesh sees the batch as one global array, so the mean loss and
BatchNorm's statistics are those of the whole batch whatever the number of devices.
Of several processes each puts its own part on its own devices.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike

# Of jax.Device, which type checkers do not take for a type.
Devices = Sequence[Any]
# Bytes, of which JAX wants the place of a NumPy array to be a multiple.
ALIGNMENT = 64


def data_mesh(devices: Devices | None = None) -> Mesh:
    """Return a mesh over `devices`, by default all of all processes.

    The devices of a process are neighbors, so that its rows of a batch are one slice.
    """
    ordered = sorted(
        devices or jax.devices(), key=lambda device: (device.process_index, device.id)
    )
    return Mesh(np.asarray(ordered), ("data",))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding by which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding that cuts the first axis into equal parts, one a device."""
    return NamedSharding(mesh, PartitionSpec("data"))


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding that cuts the second axis so: (accumulate, rows, ...)."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a pytree of arrays whole on every device of the mesh, as new buffers.

    New ones, because a training step donates its state and must not take away
    arrays that the caller's model still holds. NumPy's are an exception on a CPU: JAX
    uses them where they lie if that is a multiple of `ALIGNMENT`, see `empty_aligned`,
    and never writes there.
    """
    sharding = replicated_sharding(mesh)

    def put(leaf: Any) -> jax.Array:
        copies = [_copy(leaf, device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, copies)

    return jax.tree.map(put, tree)


def empty_aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Allocate an array to be filled, which JAX then uses on a CPU without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def local_rows(rows: int, mesh: Mesh) -> slice:
    """Return the rows of a batch that lie on this process's devices.

    Args:
        rows: of the batch, a multiple of the number of devices.
        mesh: from `data_mesh`.
    """
    per_device, devices = rows // mesh.size, mesh.local_devices
    first = list(mesh.devices.flat).index(devices[0])
    return slice(first * per_device, (first + len(devices)) * per_device)


def shard_batch(tree: Any, mesh: Mesh, *, axis: int = 0) -> Any:
    """Put batches on the devices, each row on one of them, as new buffers.

    Args:
        tree: arrays whose `axis` is `local_rows` of a batch.
        mesh: from `data_mesh`.
        axis: 0 or 1, as in `batch_sharding` and `row_sharding`.
    """
    sharding = row_sharding(mesh) if axis else batch_sharding(mesh)

    def put(leaf: np.ndarray) -> jax.Array:
        devices = mesh.local_devices
        parts = np.split(leaf, len(devices), axis)
        copies = [_copy(p, device) for p, device in zip(parts, devices, strict=True)]
        shape = list(leaf.shape)
        shape[axis] *= mesh.size // len(devices)
        return jax.make_array_from_single_device_arrays(tuple(shape), sharding, copies)

    return jax.tree.map(put, tree)


def to_host(tree: Any) -> Any:
    """Copy a pytree of arrays to NumPy, so that later donation cannot touch it.

    Every process gets the whole of replicated arrays.
    """
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def _copy(leaf: Any, device: Any) -> jax.Array:
    return jax.device_put(leaf, device, may_alias=False)
