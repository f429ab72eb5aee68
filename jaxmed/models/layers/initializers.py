"""torchvision's initial weights, drawn on the host.

Drawing with `jax.random` compiles a program for every new shape, which makes a fresh
ResNet-50 take seconds; NumPy draws it in a fraction of one. The key still decides.
Under `nnx.eval_shape`, where there is no key to draw from and only shapes are asked
for, they are zeros.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def kaiming_normal(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    """Normal with variance 2 / fan out, for a convolution (h, w, in, out).

    He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 14; as torchvision's
    `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    """
    del out_sharding
    return normal(key, shape, math.sqrt(2 * shape[-2] / math.prod(shape))).astype(dtype)


def kaiming_normal_in(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    """Normal with variance 2 / fan in, eq. 10; the default of torch's function."""
    del out_sharding
    return normal(key, shape, math.sqrt(2 * shape[-1] / math.prod(shape))).astype(dtype)


def normal(key, shape, std: float) -> jax.Array:
    """Normal with mean 0, float32."""
    if isinstance(key, Tracer):
        return jnp.zeros(shape)
    values = _generator(key).standard_normal(shape, np.float32)
    return jnp.asarray(values * np.float32(std))


def uniform(key, shape, bound: float) -> jax.Array:
    """Uniform within ±bound, float32."""
    if isinstance(key, Tracer):
        return jnp.zeros(shape)
    values = _generator(key).random(shape, np.float32)
    return jnp.asarray((2 * values - 1) * np.float32(bound))
