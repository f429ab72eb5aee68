"""Low-rank updates of linear layers and 1×1 convolutions."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.layers.convolution import Convolution
from jaxmed.models.layers.initializers import uniform

# What an update may be called in its layer, by the part of the outputs that it is of.
WHOLE = "lora"
PARTS: tuple[str, ...] = ("lora_q", "lora_k", "lora_v")


class LowRank(nnx.Module):
    """An update of a kernel by the product of two thin matrices.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, eq. 3,
    with inputs on the left: x·W + (alpha / rank) · x·a·b. b begins with zeros, so that
    a fresh update changes nothing.

    Attributes:
        a, b: float32 (inputs, rank) and (rank, outputs).
        start: the first of the layer's outputs that it changes.
        stream: gives the random stream that turns the dropout of its inputs on; set
            for the time of a call.

    Args:
        inputs, outputs: of the part of the layer that it changes.
        rank: of the product, at least 1.
        scale: alpha / rank.
        dropout: the probability of dropping an input, in [0, 1).
        start: see the attribute.
        rngs: the stream "params" draws a, as torch draws a linear layer's weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rank: int,
        *,
        scale: float,
        dropout: float = 0.0,
        start: int = 0,
        rngs: nnx.Rngs,
    ):
        bound = 1 / math.sqrt(inputs)
        self.a = nnx.Param(uniform(rngs.params(), (inputs, rank), bound))
        self.b = nnx.Param(jnp.zeros((rank, outputs)))
        self.scale, self.start = scale, start
        self.dropout = nnx.Dropout(dropout)
        self.stream: Callable[[], nnx.Rngs | None] | None = None

    def add_to(self, y: jax.Array, x: jax.Array, layer: Any) -> jax.Array:
        """Add the update of x (..., inputs) to a layer's outputs y (..., outputs)."""
        rngs = self.stream() if self.stream else None
        x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        a, b = (m[...].astype(y.dtype) for m in (self.a, self.b))
        thin = jnp.matmul(x.astype(y.dtype), a, precision=layer.precision)
        update = self.scale * jnp.matmul(thin, b, precision=layer.precision)
        after = y.shape[-1] - self.start - update.shape[-1]
        return y + jnp.pad(update, [(0, 0)] * (y.ndim - 1) + [(self.start, after)])

    def add_to_kernel(self, kernel: jax.Array) -> jax.Array:
        """Add the product to a kernel (..., inputs, outputs)."""
        product = jnp.matmul(self.a[...], self.b[...], precision="highest")
        end = self.start + product.shape[1]
        return kernel.at[..., self.start : end].add(self.scale * product)


class LoraLinear(nnx.Linear):
    """`nnx.Linear` with low-rank updates, by the names of `updates_of`."""

    def __call__(self, inputs: jax.Array, *more: Any) -> jax.Array:
        """Map (..., inputs) to (..., outputs)."""
        y = super().__call__(inputs, *more)
        for update in updates_of(self).values():
            y = update.add_to(y, inputs, self)
        return y


class LoraConvolution(Convolution):
    """A 1×1 convolution with a low-rank update; see `LoraLinear`."""

    def __call__(self, inputs: jax.Array, *more: Any) -> jax.Array:
        """Convolve (n, h, w, inputs) to (n, h', w', outputs)."""
        y = super().__call__(inputs, *more)
        strides: Any = self.strides
        down, across = (strides, strides) if isinstance(strides, int) else strides
        for update in updates_of(self).values():
            y = update.add_to(y, inputs[:, ::down, ::across], self)
        return y


# The classes of layers that take updates, and what becomes of them.
ADAPTED: dict[type, type] = {
    nnx.Linear: LoraLinear,
    nnx.Conv: LoraConvolution,
    Convolution: LoraConvolution,
}


def takes_updates(layer: Any) -> bool:
    """Tell whether a layer is linear, or a 1×1 convolution of all channels."""
    if isinstance(layer, nnx.Conv):
        return tuple(layer.kernel_size) == (1, 1) and layer.feature_group_count == 1
    return type(layer) in ADAPTED


def updates_of(layer: nnx.Module) -> dict[str, LowRank]:
    """Return a layer's low-rank updates by their names in it."""
    return {n: getattr(layer, n) for n in (WHOLE, *PARTS) if hasattr(layer, n)}
