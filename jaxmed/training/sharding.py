"""One program over all devices: data-parallel by a mesh with one axis, "data".

`jax.jit` over a mesh sees the batch as one global array, so the mean loss and
BatchNorm's statistics are those of the whole batch whatever the number of devices.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Of jax.Device, which type checkers do not take for a type.
Devices = Sequence[Any]


def data_mesh(devices: Devices | None = None) -> Mesh:
    """Returns a mesh over `devices`, by default all there are."""
    return Mesh(np.asarray(devices or jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is cut into equal parts, one a device."""
    return NamedSharding(mesh, PartitionSpec("data"))


def over_rows(mesh: Mesh) -> NamedSharding:
    """The second axis is cut so: the rows of (accumulate, rows, ...)."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a pytree of arrays whole on every device of the mesh, as new buffers.

    New ones, because a training step donates its state and must not take away
    arrays that the caller's model still holds.
    """
    return jax.device_put(tree, replicated(mesh), may_alias=False)


def to_host(tree: Any) -> Any:
    """Copies a pytree of arrays to NumPy, so that later donation cannot touch it."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)
