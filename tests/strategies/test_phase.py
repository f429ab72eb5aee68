"""Phases: their groups, norms, optimizer and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxmed.errors import InputError
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import Group, Optimizer, Phase, create_strategy
from jaxmed.strategies.schedules import Schedule

RATE = 0.1
PATHS = ["backbone.conv1.kernel", "backbone.bn1.scale", "head.out.kernel"]
SHAPES = {"backbone.kernel": (3, 4), "backbone.bias": (4,), "head.kernel": (5, 2)}


def phase(*groups, **options):
    return Phase(name="p", groups=groups, **({"epochs": 1} | options))


def group(pattern, **options):
    optimizer = Optimizer(**({"learning_rate": RATE} | options))
    return Group(name=pattern, patterns=(pattern,), optimizer=optimizer)


def named(name, *patterns):
    optimizer = Optimizer(learning_rate=1e-3)
    return Group(name=name, patterns=patterns, optimizer=optimizer)


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def test_patterns_take_paths_below_them():
    assigned = phase(named("b", "backbone.*.kernel"), named("h", "head")).assign(PATHS)
    assert assigned == {"backbone.conv1.kernel": "b", "head.out.kernel": "h"}
    with pytest.raises(InputError, match=r"no parameter matches 'back' of group 'b'"):
        phase(named("b", "back")).assign(PATHS)


def test_overlaps_and_unused_patterns_are_one_error():
    overlapping = phase(named("a", "head", "backbone.layer9"), named("b", "*.kernel"))
    with pytest.raises(InputError) as caught:
        overlapping.assign(PATHS)
    message = str(caught.value)
    assert "'backbone.layer9' of group 'a'" in message
    assert "head.out.kernel (group 'a', group 'b')" in message


def test_frozen_patterns_leave_no_parameter_out():
    """The trap of the stem that stood in no group is an error, if one asks."""
    head = named("h", "head")
    every = phase(head, frozen=("backbone",))
    assert every.assign(PATHS) == {"head.out.kernel": "h"}
    assert every.transformation(["head.out.kernel"])
    with pytest.raises(InputError, match=r"frozen: backbone\.bn1\.scale\.$"):
        phase(head, frozen=("backbone.conv1",)).assign(PATHS)
    with pytest.raises(InputError, match=r"out\.kernel \(group 'h', frozen\)"):
        phase(head, frozen=("backbone", "*.kernel")).assign(PATHS)
    with pytest.raises(InputError, match=r"no parameter matches 'neck' of frozen"):
        phase(head, frozen=("backbone", "neck")).assign(PATHS)


def test_frozen_parameters_have_no_optimizer_state(model):
    params = split(model).params
    only_head = create_strategy("frozen", model).phases[0]
    trained = only_head.assign(params)
    assert set(trained) == {"head.out.kernel", "head.out.bias"}
    state = only_head.transformation(trained).init({p: params[p] for p in trained})
    arrays = [np.asarray(leaf).size for leaf in jax.tree.leaves(state)]
    # Adam: two moments, and counts.
    assert sum(size for size in arrays if size > 1) == 2 * sum(
        params[p].size for p in trained
    )
    assert only_head.training_norms(model) == frozenset()


def test_norms_train_with_their_parameters(model):
    norms = phase(named("last", "backbone.layer4")).training_norms(model)
    assert norms == {
        "backbone.layer4.0.bn1",
        "backbone.layer4.0.bn2",
        "backbone.layer4.0.downsample.1",
    }


def test_clipping_is_torchs_over_the_trained_parameters_of_all_groups(
    same, draw, train, train_torch
):
    trained = [path for path in SHAPES if path != "backbone.bias"]
    clipped = phase(
        group("backbone.kernel", name="sgd", momentum=0.9, weight_decay=0.1),
        group("head", name="adam", learning_rate=0.01),
        clip_norm=4.5,
    )
    start, gradients = draw(SHAPES)
    own = {path: start[path] for path in trained}
    norms = [np.sqrt(sum((g[p] ** 2).sum() for p in trained)) for g in gradients]
    assert min(norms) < 4.5 < max(norms)

    class Both:
        def __init__(self, params):
            kernel, head = (params[path] for path in trained)
            self.parts = (
                torch.optim.SGD([kernel], lr=RATE, momentum=0.9, weight_decay=0.1),
                torch.optim.Adam([head], lr=0.01),
            )

        def step(self):
            for part in self.parts:
                part.step()

    expected = train_torch(Both, own, gradients, clip=4.5)
    # Torch adds 1e-6 to the norm.
    same(train(clipped.transformation(trained), own, gradients), expected, rtol=1e-5)
    wrong = train_torch(Both, start, gradients, clip=4.5)  # Sees the bias, too.
    assert np.abs(wrong["backbone.kernel"] - expected["backbone.kernel"]).max() > 1e-3


@pytest.mark.parametrize("by", ["step", "epoch"])
@pytest.mark.parametrize("name", ["constant", "cosine", "step", "one_cycle"])
def test_the_rate_a_phase_tells_is_the_one_it_uses(name, by):
    schedule = Schedule(name=name, by=by, warmup_epochs=0 if name == "one_cycle" else 1)
    # Optax's own sgd, which has no momentum that one_cycle could move.
    own = group("*", name="plain", make=optax.sgd)
    told = phase(own, epochs=5, schedule=schedule)
    transformation = told.transformation(["w"], 4)
    params = {"w": jnp.zeros(())}
    state, used = transformation.init(params), []
    for _ in range(20):
        updates, state = transformation.update({"w": jnp.ones(())}, state, params)
        used.append(-updates["w"])
    expected = [told.rate(own, step, 4) for step in range(20)]
    np.testing.assert_allclose(used, expected, rtol=1e-6)
    assert len(set(expected)) > 1
