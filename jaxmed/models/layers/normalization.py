"""Batch normalization with PyTorch's meaning."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxmed.models.parameters import dotted


class OneValuePerChannel(ValueError):
    """A batch in training mode has one value per channel, and so no variance."""


class BatchNorm(nnx.Module):
    """Batch normalization over all axes but the last, as `torch.nn.BatchNorm2d`.

    Three things differ from `flax.nnx.BatchNorm`. The running variance is updated
    with the unbiased estimate, as torch does. `training` is a plain attribute that
    `set_training_norms` sets layer by layer, because a frozen stage must keep its
    statistics while a trained stage updates them. And a `mask` leaves the padding of
    a last, short batch out of the statistics, so that one compiled step serves
    batches of every length.

    Attributes:
        scale, bias: the affine parameters, float32 (c,).
        mean, var: the running statistics, float32 (c,).
        training: whether a call normalizes with the batch's own statistics and
            updates the running ones. False when built.
        axis_name: a `jax.pmap` axis over which statistics are averaged. Not needed
            under `jax.jit` over a mesh, where the batch is one global array.

    Args:
        num_features: channels.
        epsilon: added to the variance; torch's `eps`.
        momentum: the share of a batch's own statistics in the running ones' update.
    """

    def __init__(
        self, num_features: int, *, epsilon: float = 1e-5, momentum: float = 0.1
    ):
        self.scale = nnx.Param(jnp.ones(num_features))
        self.bias = nnx.Param(jnp.zeros(num_features))
        self.mean = nnx.BatchStat(jnp.zeros(num_features))
        self.var = nnx.BatchStat(jnp.ones(num_features))
        self.epsilon = epsilon
        self.momentum = momentum
        self.training = False
        self.axis_name: str | None = None

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes, in float32 if x is of a lower precision.

        Args:
            x: (n, ..., c).
            mask: float (n,), 1 for images and 0 for padding; None means all images.

        Returns:
            An array of x's shape and precision.

        Raises:
            OneValuePerChannel: in training mode, as torch's `ValueError`. Whether all
                but one image are padding is not known here, and not an error.
        """
        dtype = x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        if self.training:
            mean, var = self._update(x, mask)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = self.scale[...] * lax.rsqrt(var + self.epsilon)
        return (x * factor + (self.bias[...] - mean * factor)).astype(dtype)

    def _update(self, x, mask):
        """Update the running statistics; return the batch's mean and variance.

        Both come from one pass over x: var = E[d²] - E[d]², where d is the distance
        from the running mean. The shift is a constant for the gradient, and keeps the
        difference of squares accurate as long as the batch's mean is near the running
        one, measured in standard deviations.
        """
        if x.size == x.shape[-1] and self.axis_name is None:
            raise OneValuePerChannel(f"One value per channel, in shape {x.shape}.")
        axes = tuple(range(x.ndim - 1))
        if mask is None:
            mask = jnp.ones(x.shape[0], x.dtype)
        weights = mask.reshape(-1, *[1] * (x.ndim - 1))
        count = mask.sum() * (x.size / (x.shape[0] * x.shape[-1]))
        shift = lax.stop_gradient(self.mean[...])
        distance = x - shift
        sums = (distance * weights).sum(axes), (distance**2 * weights).sum(axes)
        count, first, second = self._sum_over_devices((count, *sums))
        offset = first / count
        var = jnp.maximum(second / count - offset**2, 0)
        mean = shift + offset
        unbiased = var * count / jnp.maximum(count - 1, 1)
        for running, batch in ((self.mean, mean), (self.var, unbiased)):
            running[...] = (1 - self.momentum) * running[
                ...
            ] + self.momentum * lax.stop_gradient(batch)
        return mean, var

    def _sum_over_devices(self, sums):
        return sums if self.axis_name is None else lax.psum(sums, self.axis_name)


def set_training_norms(
    model: nnx.Module, paths: Collection[str], *, axis_name: str | None = None
) -> None:
    """Puts the BatchNorm layers at `paths` in training mode and all others in eval.

    Args:
        model: changed in place.
        paths: dotted module paths, such as "backbone.layer4.0.bn1".
        axis_name: set on every layer; see `BatchNorm.axis_name`.
    """
    for path, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            module.training = dotted(path) in paths
            module.axis_name = axis_name


def set_norm_momentum(model: nnx.Module, momentum: float) -> None:
    """Set `momentum` of all BatchNorm layers."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            module.momentum = momentum


def norm_momenta(model: nnx.Module) -> list[float]:
    """Return the values of `momentum` that the model's BatchNorm layers have."""
    modules = (module for _, module in nnx.iter_modules(model))
    return sorted({m.momentum for m in modules if isinstance(m, BatchNorm)})


def norm_paths(model: nnx.Module) -> list[str]:
    """Returns the dotted paths of the model's BatchNorm layers, sorted."""
    return sorted(
        dotted(path)
        for path, module in nnx.iter_modules(model)
        if isinstance(module, BatchNorm)
    )
