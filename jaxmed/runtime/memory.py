"""Memory and processors that this process may use."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax.sharding import Mesh

# What images may take. The network's maps need the rest of a device, and of a host
# that computes itself also what the images were read into.
SHARE_OF_DEVICE = 0.4
SHARE_OF_HOST = 0.25
# Where the system does not say how much memory it has.
UNKNOWN = 8 * 2**30


def image_budget(mesh: "Mesh") -> int:
    """Returns the bytes that a data set may have to lie whole on every device."""
    device = mesh.local_devices[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(SHARE_OF_DEVICE * stats["bytes_limit"])
    # Devices without a memory of their own; each holds a copy.
    return int(SHARE_OF_HOST * host_memory() / len(mesh.local_devices))


def free_memory(mesh: "Mesh") -> int:
    """Return the bytes that a training step may take on a device of the mesh."""
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free, table = host_memory(), Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":") for line in table.read_text().splitlines())
        if "MemAvailable" in lines:
            free = min(free, 1024 * int(lines["MemAvailable"].split()[0]))
    return free // len(mesh.local_devices)


def host_memory() -> int:
    """Return the bytes of this machine's memory, or of the container's share."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN
    # Limits of a container or a batch job, of cgroups version 2 and 1.
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int(Path("/sys/fs/cgroup", name).read_text())
        except (OSError, ValueError):
            # Not there, or "max".
            continue
        total = min(total, limit)
    return total


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
