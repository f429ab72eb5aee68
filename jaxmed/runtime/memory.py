"""How much images may take of the devices' memory."""

import os
from pathlib import Path

from jax.sharding import Mesh

# What images may take. The network's maps need the rest of a device, and of a host
# that computes itself also what the images were read into.
SHARE_OF_DEVICE = 0.4
SHARE_OF_HOST = 0.25
# Where the system does not say how much memory it has.
UNKNOWN = 8 * 2**30


def image_budget(mesh: Mesh) -> int:
    """Returns the bytes that a data set may have to lie whole on every device."""
    device = mesh.local_devices[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(SHARE_OF_DEVICE * stats["bytes_limit"])
    # Devices without a memory of their own; each holds a copy.
    return int(SHARE_OF_HOST * host_memory() / len(mesh.local_devices))


def host_memory() -> int:
    """Returns the bytes of memory that this process can have."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN
    # A container's, or a batch job's, where there is a limit.
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(found, int(text)) if text.isdigit() else found
