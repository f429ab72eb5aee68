"""The order in which a model's layers compute."""

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split

# Pixels of a side; large enough for every architecture, and nothing is computed.
SIZE = 128


def layers_in_order(model: Classifier) -> list[str]:
    """Returns the module paths of the layers with parameters, in order of use.

    A layer is what holds parameters itself, such as "backbone.layer1.0.conv1". The
    order is read off the traced computation, so it needs no table per architecture;
    parallel branches follow one another.
    """
    definition, params, stats = split(model)
    images = jnp.zeros((1, SIZE, SIZE, model.in_channels))
    weights = params | stats
    traced = jax.make_jaxpr(lambda w: merge(definition, w, {})(images))(weights).jaxpr
    # A dict's leaves come sorted by key.
    waiting = dict(zip(traced.invars, sorted(weights), strict=True))
    order = []
    for equation in traced.eqns:
        for variable in equation.invars:
            if not isinstance(variable, Literal) and variable in waiting:
                order.append(waiting.pop(variable))
    used = [path.rpartition(".")[0] for path in order if path in params]
    return list(dict.fromkeys(used))
