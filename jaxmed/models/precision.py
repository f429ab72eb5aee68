"""The precision a network computes in."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxmed.errors import unknown
from jaxmed.models.backbones.vit import Attention
from jaxmed.models.classifier import Classifier

PRECISIONS = ("auto", "float32", "bfloat16")
CASTING = nnx.Conv | nnx.Linear | nnx.LayerNorm
# The first of NVIDIA's tensor cores that multiply bfloat16: Ampere's.
AMPERE = 8.0


def resolve_precision(precision: str, device: Any = None) -> str:
    """Returns "float32" or "bfloat16"; of "auto" what suits a device.

    "auto" is bfloat16 on TPUs and on NVIDIA's GPUs from Ampere on, which multiply it
    several times faster, and float32 everywhere else.

    Args:
        precision: one of `PRECISIONS`.
        device: by default JAX's first.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    device = jax.devices()[0] if device is None else device
    if device.platform == "tpu":
        return "bfloat16"
    # "8.0" on NVIDIA's; AMD's have a name here.
    capability = str(getattr(device, "compute_capability", ""))
    number = capability.replace(".", "", 1)
    fast = number.isdigit() and float(capability) >= AMPERE
    return "bfloat16" if device.platform == "gpu" and fast else "float32"


def set_precision(model: Classifier, precision: str) -> None:
    """Set what the backbone's convolutions and linear layers compute in.

    With "bfloat16" they cast their inputs and kernels, and what flows between layers
    is bfloat16. Parameters, their gradients, BatchNorm's statistics, the head, its
    logits and the loss stay float32. Training and prediction follow alike.

    float32 means products of float32 numbers on every device. What JAX does unless it
    is asked multiplies 10 bits of the mantissa on NVIDIA's GPUs (TF32) and 8 on TPUs,
    and logits differ by more than the 1e-4 that conversion promises.

    Args:
        model: changed in place; its arrays stay as they are.
        precision: "float32" or "bfloat16".
    """
    for path, module in nnx.iter_modules(model):
        casts = path[:1] == ("backbone",) and precision == "bfloat16"
        if isinstance(module, CASTING):
            # None leaves the arrays' own, which is double precision where they have it.
            module.dtype = jnp.dtype(jnp.bfloat16) if casts else None
        if isinstance(module, nnx.Conv | nnx.Linear | Attention):
            module.precision = None if casts else lax.Precision.HIGHEST


def precision_of(model: Classifier) -> str:
    """Returns what `set_precision` set."""
    layers = (module for _, module in nnx.iter_modules(model))
    casts = any(isinstance(m, CASTING) and m.dtype is not None for m in layers)
    return "bfloat16" if casts else "float32"
