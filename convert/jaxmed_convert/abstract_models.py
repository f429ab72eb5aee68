"""Models without numbers: what an architecture's arrays are called and how large."""

from functools import cache
from typing import Any

import jax
from flax import nnx

from jaxmed.models.classifier import Classifier
from jaxmed.models.registry import create_model
from jaxmed_convert.rules import Target, targets


@cache
def outline(architecture: str, pool: str = "own") -> Classifier:
    """Returns the architecture as an abstract model with a linear head.

    It takes RGB images, has one class, and holds shapes in place of arrays.
    """

    def build() -> Classifier:
        rngs: Any = _OneKey()
        return create_model(architecture, num_classes=1, pool=pool, rngs=rngs)

    return nnx.eval_shape(build)


class _OneKey:
    """In place of `nnx.Rngs`, whose counters make tracing quadratic in the layers."""

    def __init__(self):
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self._key


def backbone_targets(model: Classifier) -> dict[str, Target]:
    """Returns `targets` of the backbone alone."""
    return {
        name: target
        for name, target in targets(model).items()
        if target.path.startswith("backbone.")
    }
