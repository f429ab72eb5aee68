"""What every family of architectures gives: images to a feature map to a vector."""

from typing import Protocol

import jax
from flax import nnx

Stages = tuple[tuple[str, tuple[str, ...]], ...]


class Backbone(Protocol):
    """The part of a network below the head. Each family's file has one.

    Attributes:
        num_features: length of the vector that `pool` gives.
        stages: the network's stages from the image up, each with the paths of its
            modules, without "backbone.". Every parameter is in one stage. Strategies
            freeze and train by these names, and the network computes in this order.
    """

    num_features: int
    stages: Stages

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Computes one stage: from what enters it to what enters the next one.

        The activation and the pooling that follow a stage's last layer belong to it.
        A stage whose layers are all in `pool` returns what it gets.

        Args:
            stage: one of `stages`.
            x: float32 (n, h, w, c): what the stage before gave; of the first stage
                the images, normalized.
            mask: float (n,), 0 for padding; see `BatchNorm`.
            rngs: turns dropout and stochastic depth on, if the family has them.

        Returns:
            float32 (n, h', w', c'), or tokens (n, t, c) of a vision transformer; of
            the last stage what `pool` takes.

        Raises:
            InputError: images too small for the network, from the first stage.
        """
        ...

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Maps the last stage's result to vectors (n, num_features)."""
        ...


def run_stages(
    backbone: Backbone,
    x: jax.Array,
    *,
    mask: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
    start: str | None = None,
    stop: str | None = None,
) -> jax.Array:
    """Runs a backbone from one stage to another.

    Args:
        backbone: whose stages.
        x, mask, rngs: see `Backbone.run_stage`.
        start: the stage that `x` enters; None is the first.
        stop: the stage to end before; None runs the last one too.

    Returns:
        What enters `stop`, or the last stage's result; see `Backbone.run_stage`.
    """
    names = [name for name, _ in backbone.stages]
    first = 0 if start is None else names.index(start)
    for name in names[first : None if stop is None else names.index(stop)]:
        x = backbone.run_stage(name, x, mask=mask, rngs=rngs)
    return x


def numbers_of(stages: Stages, stage: str) -> list[int]:
    """Returns which layers of torchvision's `features` a stage has, in order."""
    paths = [path.split(".") for path in dict(stages)[stage]]
    return [int(number) for home, number in paths if home == "features"]
