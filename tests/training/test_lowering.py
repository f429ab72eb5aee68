"""Contract 12: the training step of every family lowers for CUDA and TPU."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.precision import set_precision
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy
from jaxmed.training.state import Batch, StepPlan, begin_phase
from jaxmed.training.step import make_train_step

ROWS = 8
PLATFORMS = ("cuda", "tpu")


@dataclass(frozen=True)
class Family:
    """A small member of a family, and how its step lowered when this was written.

    Attributes:
        name: of the model.
        size: pixels of a side that it is traced at.
        converts, transposes: operations of that kind, which may not become more: each
            may be a pass over the activations that no one asked for.
    """

    name: str
    size: int
    converts: int
    transposes: int


FAMILIES = (
    Family("resnet18", 64, 140, 1),
    Family("vgg11_bn", 64, 119, 9),
    Family("mobilenet_v2", 64, 433, 18),
    Family("densenet121", 64, 744, 1),
    Family("efficientnet_b0", 64, 624, 17),
    Family("inception_v3", 96, 608, 1),
    Family("convnext_tiny", 64, 701, 55),
)


def trace(name: str, size: int) -> Any:
    """Trace a training step of all weights in bfloat16, on shapes alone."""
    plan = definition = None

    def begin():
        nonlocal plan, definition
        model = create_model(name, num_classes=4)
        set_precision(model, "bfloat16")
        strategy = create_strategy(
            "full", model, epochs=1, learning_rate=1e-3, optimizer="adam"
        )
        plan = StepPlan(
            phase=strategy.phases[0],
            preprocessing=Preprocessing(image_size=size),
            task="multiclass",
        )
        definition, state, frozen = begin_phase(model, plan)
        return state, frozen

    state, frozen = jax.eval_shape(begin)
    batch = Batch(
        jax.ShapeDtypeStruct((1, ROWS, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1, ROWS), jnp.int32),
        jax.ShapeDtypeStruct((1, ROWS), jnp.float32),
    )
    step = jax.jit(make_train_step(definition, plan))
    return step.trace(state, frozen=frozen, batch=batch, key=jax.random.key(0))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_step_lowers(family):
    traced = trace(family.name, family.size)
    for platform in PLATFORMS:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        counts = Counter(re.findall(r"stablehlo\.(\w+)", text))
        assert counts["convolution"] > 0
        assert counts["convert"] <= family.converts, platform
        assert counts["transpose"] <= family.transposes, platform
