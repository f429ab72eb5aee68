"""Where a phase's network begins to change: the stages before need computing once."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.strategies.phase import Phase, matches

TRAINED = "is trained"


class Entry(NamedTuple):
    """The first stage whose output may differ from epoch to epoch.

    Attributes:
        stage: its name, "head" if the backbone is frozen as a whole.
        why: what makes it differ, as the end of a sentence.
    """

    stage: str
    why: str


def find_entry(model: Classifier, phase: Phase, image_size: int) -> Entry:
    """Finds the stage that a phase's training enters, if frozen stages run before.

    A stage is frozen if no parameter of it is trained, none of its BatchNorm layers
    uses batch statistics, and neither dropout nor stochastic depth acts in it, which
    they do in the whole backbone as soon as some of it is trained.

    Args:
        model: whose stages.
        phase: what is trained.
        image_size: pixels of a side.

    Returns:
        The first stage that is not frozen; the model's first if none is.
    """
    trained = phase.assign(split(model).params)
    norms = phase.training_norms(model)
    entry = Entry("head", TRAINED)
    for stage, patterns in model.stages.items():
        if _any_inside(patterns, trained):
            entry = Entry(stage, TRAINED)
            break
        if _any_inside(patterns, norms):
            entry = Entry(stage, "has BatchNorm statistics that drift")
            break
    if any(path.startswith("backbone.") for path in trained):
        random = _first_random(model, entry.stage, image_size)
        if random:
            entry = Entry(random, "has stochastic depth")
    return entry


def _any_inside(patterns: Iterable[str], paths: Iterable[str]) -> bool:
    return any(matches(pattern, path) for path in paths for pattern in patterns)


def _first_random(model: Classifier, stop: str, image_size: int) -> str | None:
    """Returns the first stage before `stop` that draws from the random stream."""
    definition, params, stats = split(model)
    found: list[str] = []

    def run(weights, x):
        backbone = merge(definition, weights, {}).backbone
        rngs = nnx.Rngs(dropout=0)
        before = rngs.dropout.count.get_value()
        for stage in model.stages:
            if stage == stop or found:
                break
            x = backbone.run_stage(stage, x, rngs=rngs)
            # Every draw replaces the count; what it counts is not known in a trace.
            if rngs.dropout.count.get_value() is not before:
                found.append(stage)

    images = jnp.zeros((1, image_size, image_size, model.in_channels))
    jax.eval_shape(run, params | stats, images)
    return found[0] if found else None
