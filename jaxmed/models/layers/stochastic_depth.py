"""Residual branches that are left out at random while training."""

import jax
import jax.numpy as jnp
from flax import nnx


def drop_rows(
    branch: jax.Array, probability: float, *, rngs: nnx.Rngs | None
) -> jax.Array:
    """Drops a residual branch for some images of a batch, each with a coin of its own.

    Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, eq. 2, as
    torchvision's `stochastic_depth(mode="row")`: the branches that stay are divided
    by the probability of staying, which keeps the expectation. So nothing is scaled
    when predicting.

    Args:
        branch: (n, ...), what is added to the shortcut.
        probability: of dropping, in [0, 1).
        rngs: the stream "dropout" tosses the coins; None drops nothing.

    Returns:
        An array of branch's shape.
    """
    assert 0 <= probability < 1, probability
    if rngs is None or probability == 0:
        return branch
    stays = 1 - probability
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    coins = jax.random.bernoulli(rngs.dropout(), stays, shape)
    return branch * jnp.where(coins, 1 / stays, 0).astype(branch.dtype)
