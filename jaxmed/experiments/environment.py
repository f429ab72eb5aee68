"""What a run depended on, for environment.json."""

import platform
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed import hosts

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.experiments.arms import Prepared

PACKAGES = ("jaxmed", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe_environment(data: "Dataset", prepared: "Prepared") -> dict[str, Any]:
    """Returns versions, devices, fingerprints and counts, as environment.json has them.

    Args:
        data: its fingerprint and sizes are recorded.
        prepared: so are where its weights came from, its precision and preprocessing,
            its augmentation, its loss, how many parameters its model has, and the
            phases and groups of its strategy.
    """
    import jax

    from jaxmed.models.parameters import split
    from jaxmed.models.precision import precision_of

    model, start = prepared.model, prepared.start
    total = sum(array.size for array in split(model).params.values())
    return {
        **{name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": hosts.count(),
        "git_revision": git_revision(),
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
            "task": data.task,
            "skipped": len(data.skipped),
            "sizes": {n: len(getattr(data, n).ids) for n in ("train", "val", "test")},
        },
        "weights": {"name": start.name, "fingerprint": start.fingerprint},
        "precision": precision_of(model),
        "preprocessing": asdict(prepared.preprocessing),
        "augmentation": prepared.augmentation.describe(),
        "loss": asdict(prepared.loss),
        "parameters": {"total": total, "phases": prepared.strategy.summary(model)},
    }


def git_revision() -> str | None:
    """Returns the checkout's commit, with "-dirty" behind it if files were changed.

    None if jaxmed does not run from a checkout, or git is not there.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    options = ["--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
