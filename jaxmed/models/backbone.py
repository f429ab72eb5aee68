"""What every family of architectures gives: images to a feature map to a vector."""

from typing import Protocol

import jax
from flax import nnx


class Backbone(Protocol):
    """The part of a network below the head. Each family's file has one.

    Attributes:
        num_features: length of the vector that `pool` gives.
        stages: the network's stages from the image up, each with the paths of its
            modules, without "backbone.". Every parameter is in one stage. Strategies
            freeze and train by these names.
    """

    num_features: int
    stages: tuple[tuple[str, tuple[str, ...]], ...]

    def features(
        self,
        images: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Computes the last feature map.

        Args:
            images: float32 (n, h, w, in_channels), normalised.
            mask: float (n,), 0 for padding; see `BatchNorm`.
            rngs: turns dropout and stochastic depth on, if the family has them.

        Returns:
            float32 (n, h', w', c).
        """
        ...

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Maps a feature map (n, h', w', c) to vectors (n, num_features)."""
        ...
