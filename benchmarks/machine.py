"""What a benchmark ran on, in words."""

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("jaxmed", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision")


def describe() -> dict[str, str]:
    """Returns processor, cores, memory, accelerator, system and versions."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages / 2**30:.0f} GiB",
        "accelerator": _accelerator(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str:
    import jax

    kinds = {device.device_kind for device in jax.devices() if device.platform != "cpu"}
    return ", ".join(sorted(kinds)) or "none"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
