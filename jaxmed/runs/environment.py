"""Versions, devices and data that a run depended on, for environment.json."""

import os
import platform
import subprocess
from collections import Counter
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxmed
from jaxmed.runtime import distributed

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.models.classifier import Classifier

# Linux has it where there is a GPU of NVIDIA's with its driver.
NVIDIA = Path("/dev/nvidia0")
SPLITS = ("train", "val", "test")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe_environment(
    data: "Dataset", model: "Classifier", preprocessing: "Preprocessing"
) -> dict[str, Any]:
    """Return versions, devices, fingerprints and counts, as environment.json has them.

    Args:
        data: its fingerprint and sizes are recorded.
        model: its precision is recorded.
        preprocessing: what the model is trained with.
    """
    import jax

    from jaxmed.models.precision import precision_of

    return {
        **describe_program(),
        **{name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "device": describe_device(),
        "processes": distributed.process_count(),
        "data": describe_data(data),
        "precision": precision_of(model),
        "preprocessing": asdict(preprocessing),
    }


def describe_device() -> str:
    """Return a description of JAX's devices, and why it is the CPU where it is."""
    import jax

    kinds = Counter(device.device_kind for device in jax.devices())
    named = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
    if jax.default_backend() != "cpu":
        return named
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return f"{named}, as JAX_PLATFORMS asks for"
    without = f"{named}; JAX found no GPU and no TPU"
    if NVIDIA.exists():
        return (
            f"{without}, and there is an NVIDIA GPU: this JAX is made for CPUs, or its "
            "CUDA does not work (pip install -U 'jax[cuda12]')"
        )
    return without


def describe_program() -> dict[str, str | None]:
    """Return jaxmed's version, and a checkout's commit."""
    return {"jaxmed": jaxmed.__version__, "git_revision": git_revision()}


def describe_data(data: "Dataset") -> dict[str, Any]:
    """Return a data set's images, classes and patients by split."""
    splits = {name: getattr(data, name) for name in SPLITS}
    described = {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
        "task": data.task,
        "skipped": len(data.skipped),
        "image_shape": list(data.train.images.shape[1:]),
        "sizes": {name: len(split) for name, split in splits.items()},
        "counts": {
            name: _class_counts(split.labels, data) for name, split in splits.items()
        },
    }
    groups = {name: set(split.groups or ()) - {""} for name, split in splits.items()}
    if any(groups.values()):
        described["groups"] = {name: len(of) for name, of in groups.items()}
        all_groups = set().union(*groups.values())
        described["groups_in_several_splits"] = sum(
            sum(group in of for of in groups.values()) > 1 for group in all_groups
        )
    return described


def _class_counts(labels: np.ndarray, data: "Dataset") -> dict[str, int]:
    """Count the images of every class; one with several labels counts for each."""
    if labels.ndim == 2:
        counts = (labels == 1).sum(axis=0)
    else:
        counts = np.bincount(labels, minlength=len(data.class_names))
    return dict(zip(data.class_names, counts.tolist(), strict=True))


def git_revision() -> str | None:
    """Return the checkout's commit, with "-dirty" behind it if files were changed.

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
