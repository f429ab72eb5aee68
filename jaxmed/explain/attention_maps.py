"""Saliency maps from the attention of vision transformers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxmed.explain.layer_taps import as_map
from jaxmed.explain.network import eval_model
from jaxmed.explain.pixel_maps import RawMaps
from jaxmed.models.parameters import Arrays, Parts


def attention_rollout(
    parts: Parts, images: jax.Array, classes: jax.Array, indices: jax.Array
) -> RawMaps:
    """Multiply the attention of all blocks, as if information only flowed along it.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section
    3: the mean over the heads, half of it and half the shortcut. The map is how much of
    each patch is in the class token at the end, or in the average of the patches if the
    model takes that, whatever the class.
    """
    del classes, indices
    maps = _roll_out(*parts, images)
    return RawMaps(maps, maps.max(axis=(1, 2)))


@partial(jax.jit, static_argnames="definition")
def _roll_out(
    definition: Any, params: Arrays, stats: Arrays, images: jax.Array
) -> jax.Array:
    backbone: Any = eval_model(Parts(definition, params, stats)).backbone
    tokens = backbone.run_stage("stem", images)
    rolled = shortcut = jnp.eye(tokens.shape[1])
    for block in backbone.blocks:
        shares = block.attn.shares(block.norm1(tokens)).mean(axis=1)
        rolled = (shares + shortcut) / 2 @ rolled
        tokens = block(tokens)
    row = rolled[:, 0]
    if backbone.pooling == "average":
        row = rolled[:, backbone.prefix :].mean(axis=1)
    return as_map(backbone, row[..., None], images)[..., 0]
