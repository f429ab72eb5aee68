"""Converted weights on disk: safetensors files that are read without torch."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmed.image_stats import Scale
from jaxmed.runtime.files import atomic_write, hash_arrays

# Goes up when the same source would be converted to something else.
VERSION = "3"


class Stored(NamedTuple):
    """Converted weights.

    Attributes:
        arrays: float32, by jaxmed's path.
        source: where they came from: a URL or a file.
        sha256: of the source file.
        scale: what a file's weights want of RGB images, if it shows that.
        scale_reason: why, or why it is not known; empty for published weights.
    """

    arrays: dict[str, np.ndarray]
    source: str = ""
    sha256: str = ""
    scale: Scale | None = None
    scale_reason: str = ""


class Unusable(Exception):
    """A stored file is damaged, or was written for something else."""


def write(path: Path, stored: Stored) -> None:
    """Writes converted weights, atomically."""
    from safetensors.numpy import save_file

    metadata = {
        "source": stored.source,
        "sha256": stored.sha256,
        "converter": VERSION,
        "content": hash_arrays(stored.arrays),
        "scale": json.dumps(stored.scale),
        "scale_reason": stored.scale_reason,
    }
    with atomic_write(path) as temporary:
        save_file(stored.arrays, temporary, metadata)


def read(path: Path, paths: Collection[str]) -> Stored:
    """Reads converted weights.

    Args:
        path: an existing file.
        paths: jaxmed's paths of the arrays it must hold.

    Raises:
        Unusable: the file is truncated, altered, of another version of the
            converter, or holds other arrays.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Unusable(str(error)) from error
    if metadata.get("converter") != VERSION:
        raise Unusable("it was written by another version of the converter")
    if arrays.keys() != set(paths):
        raise Unusable("it holds other arrays than the architecture has")
    if metadata.get("content") != hash_arrays(arrays):
        raise Unusable("its bytes have changed since it was written")
    scale = json.loads(metadata["scale"])
    return Stored(
        arrays,
        metadata["source"],
        metadata["sha256"],
        scale and Scale(*map(tuple, scale)),
        metadata["scale_reason"],
    )
