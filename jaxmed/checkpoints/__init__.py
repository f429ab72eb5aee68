"""Checkpoints of a training: writing, verifying and resuming from them."""

from jaxmed.checkpoints.checkpoint import (
    Checkpoints,
    load_best_weights,
    open_checkpoints,
)

__all__ = [
    "Checkpoints",
    "load_best_weights",
    "open_checkpoints",
]
