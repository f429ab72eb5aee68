"""Contract 1 for every preset: frozen is frozen, holds no state and costs nothing."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from fixtures.marks import slow_but
from flax import nnx
from jax.extend import core

from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.backbones.convnext import ConvNeXt
from jaxmed.models.backbones.densenet import DenseNet
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier, Head
from jaxmed.models.layers.convolution import convolution
from jaxmed.models.layers.normalization import BatchNorm, set_training_norms
from jaxmed.models.parameters import load, merge, split
from jaxmed.models.registry import create_model
from jaxmed.runtime.sharding import data_mesh, replicate
from jaxmed.strategies import Phase, create_strategy
from jaxmed.strategies.presets import PRESETS
from jaxmed.training.state import (
    Images,
    StepPlan,
    TrainState,
    all_weights,
    begin_phase,
)
from jaxmed.training.step import compiled_train_step

SIZE, BATCH, STEPS = 64, 4, 3
# The defaults of each preset, but for what saves a program, because another preset
# has the same phase; and at l2_sp's own rate, steps of some scales are less than a
# rounding.
OPTIONS: dict[str, dict[str, Any]] = {name: {} for name in PRESETS} | {
    "two_phase": {"learning_rate": 1e-4},
    "linear_probe_then_finetune": {"learning_rate": 1e-4, "schedule": "constant"},
    "discriminative": {
        "rates": [1e-4, 1e-4, 1e-4, 1e-4, 1e-3],
        "optimizer": "adam",
        "weight_decay": 0.0,
    },
    "l2_sp": {"learning_rate": 0.1},
    "sequence": {"phases": [{"strategy": "frozen"}, {"strategy": "partial"}]},
}
FAMILIES = ("plain", "resnet", "densenet", "convnext", "vit")
# Of the families after the first, in the default suite.
FEW = ("partial",)
CASES = [
    pytest.param(
        *(preset, family),
        marks=[] if family == "plain" or preset in FEW else pytest.mark.slow,
    )
    for family in FAMILIES
    for preset in PRESETS
    # It adds parameters: test_adapters.py.
    if preset != "lora"
]
# Arrays of a parameter's shape that an optimizer keeps.
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "lion": 1, "lamb": 2}
every_case = pytest.mark.parametrize(("preset", "family"), CASES)


class Plain(nnx.Module):
    """A convolution with BatchNorm in each of five stages."""

    num_features = 64
    stages = tuple(
        (name, (f"conv{i}", f"bn{i}"))
        for i, name in enumerate(("stem", "layer1", "layer2", "layer3", "layer4"))
    )

    def __init__(self, rngs):
        channels = (3, 16, 32, 64, 64, 64)
        for i in range(5):
            conv = convolution(*channels[i : i + 2], 3, stride=2, rngs=rngs)
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", BatchNorm(channels[i + 1]))

    def run_stage(self, stage, x, *, mask=None, rngs=None):
        conv, norm = dict(self.stages)[stage]
        return nnx.relu(getattr(self, norm)(getattr(self, conv)(x), mask=mask))

    def pool(self, features, *, rngs=None):
        return features.mean(axis=(1, 2))


@cache
def build(family):
    """A short network of a family, of five stages and a head."""
    rngs = nnx.Rngs(0)
    if family == "resnet":
        return create_model("resnet10_narrow", num_classes=4)
    if family == "plain":
        backbone = Plain(rngs)
    elif family == "densenet":
        backbone = DenseNet((1, 1, 1, 1), width=16, growth=16, rngs=rngs)
    elif family == "vit":
        backbone = VisionTransformer(16, 64, 4, 2, grid=4, rngs=rngs)
    else:
        backbone = ConvNeXt((1, 1, 1, 1), (16, 32, 64, 128), 0.0, rngs=rngs)
    features = backbone.num_features
    head = Head("linear", features, 4, hidden_features=1, dropout=0, rngs=rngs)
    model = Classifier("resnet18" if family == "plain" else family, backbone, head)
    # With the 1e-6 that they begin with, ConvNeXt's branches would hardly learn.
    load(model, {p: a**0 if "layer_scale" in p else a for p, a in weights(model)})
    return model


def weights(model):
    parts = split(model)
    return (parts.params | parts.stats).items()


def phases(preset, family, **more):
    model = build(family)
    return create_strategy(preset, model, **OPTIONS[preset], **more).phases


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What three steps of a phase made of a network."""

    state: TrainState
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    flops: float


def train(family, phase, **plan):
    """Trains; phases that differ in what a step does not see share a program."""
    same = {"name": "", "patience": None, "restore_best": True, "epochs": 1}
    return train_once(family, replace(phase, **same), **plan)


@cache
def train_once(family: str, phase: Phase, **more: Any) -> Trained:
    model, rng = build(family), np.random.default_rng(0)
    plan = StepPlan(
        phase=phase, preprocessing=Preprocessing(image_size=SIZE), task="multiclass",
        steps_per_epoch=STEPS, **more,
    )  # fmt: skip
    mesh = data_mesh(jax.devices()[:1])
    definition, state, frozen = begin_phase(model, plan)
    images = rng.integers(0, 256, (24, SIZE, SIZE, 3), dtype=np.uint8)
    state, frozen, data, key = replicate(
        (state, frozen, Images(images, np.arange(24) % 4), jax.random.key(0)), mesh
    )
    shape = (STEPS, plan.accumulate, BATCH)
    indices = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    others = {"mask": np.ones(shape[1:], np.float32), "images": data, "key": key}
    step: Any = compiled_train_step(definition, plan, mesh)
    lowered = step.lower(state, frozen=frozen, indices=indices[0], **others)
    # The same operations, turned into machine code in half the time.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    before = {path: np.array(array) for path, array in weights(model)}
    for rows in indices:
        state = compiled(state, frozen=frozen, indices=rows, **others)
    return Trained(
        state=state,
        before=before,
        after={p: np.array(a) for p, a in all_weights(state, frozen).items()},
        flops=compiled.cost_analysis()["flops"],
    )


def check_what_moved(family, phase, **plan):
    """Everything in a group moved, statistics in training mode too, and no other."""
    model = build(family)
    params = split(model).params
    live = set(phase.assign(params))
    norms = phase.training_norms(model)
    live |= {f"{norm}.{name}" for norm in norms for name in ("mean", "var")}
    trained = train(family, phase, **plan)
    assert trained.before.keys() == trained.after.keys()
    moved = {
        path
        for path, array in trained.before.items()
        if array.tobytes() != trained.after[path].tobytes()
    }
    assert moved == live, phase.name
    return trained


@every_case
def test_frozen_weights_and_statistics_stay_bit_identical(preset, family):
    for phase in phases(preset, family):
        check_what_moved(family, phase)


@pytest.mark.parametrize("family", slow_but(("plain",), FAMILIES))
def test_neither_decay_nor_momentum_nor_an_average_moves_what_is_frozen(family):
    settings = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1}
    (phase,) = phases("partial", family, clip_norm=1.0, **settings)
    state = check_what_moved(family, phase, ema=0.5, accumulate=2).state
    assert state.average.keys() == state.params.keys() | state.stats.keys()


@pytest.mark.parametrize(
    "family", slow_but(("plain",), ["plain", "resnet", "densenet"])
)
@pytest.mark.parametrize("policy", ["train", "eval"])
def test_statistics_follow_the_policy(policy, family):
    (phase,) = phases("partial", family, batch_norm=policy)
    trained = check_what_moved(family, phase)
    every = split(build(family)).stats
    assert trained.state.stats.keys() == (every.keys() if policy == "train" else set())
    # Statistics that drift below the first trained layer ask for no gradient there.
    (same,) = phases("partial", family)
    assert trained.flops < 1.1 * train(family, same).flops


def kept(state, trained):
    """Counts the elements of an optimizer's state, which are of trained parameters."""
    count = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        parameters = [name for name in names if "." in str(name)]
        assert set(parameters) <= set(trained), path
        # All else are counters, and three coefficients of muon's.
        assert len(parameters) == 1 or leaf.size in (1, 3), path
        count += leaf.size if parameters else 0
    return count


@every_case
def test_the_optimizer_knows_trained_parameters_only(preset, family):
    params = split(build(family)).params
    for phase in phases(preset, family):
        groups = phase.assign(params)
        needed = 0
        for group in phase.groups:
            kind = group.optimizer
            arrays = MOMENTS["momentum" if kind.momentum else kind.name]
            arrays += kind.l2_sp > 0
            own = [params[path].size for path in groups if groups[path] == group.name]
            needed += arrays * sum(own)
        trained = train(family, phase)
        assert trained.state.params.keys() == groups.keys()
        assert kept(trained.state.optimizer, groups) == needed, phase.name


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("optimizer", [*MOMENTS, "muon"])
def test_every_optimizer_keeps_what_it_needs(optimizer, schedule):
    settings = {"optimizer": optimizer, "schedule": schedule, "clip_norm": 1.0}
    if optimizer == "momentum":
        settings |= {"optimizer": "sgd", "momentum": 0.9}
    (phase,) = phases("partial", "plain", **settings)
    params = split(build("plain")).params
    trained = {path: params[path] for path in phase.assign(params)}
    state = jax.eval_shape(phase.transformation(trained).init, trained)
    needed = 0
    for array in trained.values():
        of_muon = 1 if array.ndim > 1 else MOMENTS["adamw"]
        # one_cycle gives sgd a momentum.
        of_sgd = int(schedule == "one_cycle")
        arrays = MOMENTS | {"muon": of_muon, "sgd": of_sgd}
        needed += arrays[optimizer] * array.size
    assert kept(state, trained) == needed


def count(function, *arguments):
    """XLA's own count of a function's operations."""
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.cost_analysis().get("flops", 0.0)


class Forward:
    """The forward pass of a family, operation by operation."""

    def __init__(self, family):
        model = build(family)
        set_training_norms(model, ())
        definition, params, stats = split(model)
        every = params | stats
        images = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), np.float32)
        traced = jax.make_jaxpr(lambda w, x: merge(definition, w, {})(x))(every, images)
        self.jaxpr, self.consts = traced.jaxpr, traced.consts
        # A dict's leaves come sorted by key, and the images behind them.
        self.names = dict(zip(self.jaxpr.invars, sorted(every), strict=False))
        self.flops = self.flops_before(len(self.jaxpr.eqns))

    def used(self, equation):
        """The paths of the weights that an operation takes."""
        variables = [v for v in equation.invars if not isinstance(v, core.Literal)]
        return [self.names.get(variable) for variable in variables]

    @cache  # noqa: B019
    def flops_before(self, place):
        """What the operations before that one cost."""
        done, rest = self.jaxpr.eqns[:place], self.jaxpr.eqns[place:]
        wanted = {id(v) for equation in rest for v in equation.invars}
        wanted |= {id(variable) for variable in self.jaxpr.outvars}
        results = [v for e in done for v in e.outvars if id(v) in wanted]
        part = self.jaxpr.replace(outvars=results, eqns=done)
        function = core.jaxpr_as_fun(core.ClosedJaxpr(part, self.consts))
        return count(function, *(v.aval for v in self.jaxpr.invars))

    def flops_from(self, paths):
        """What it costs from the first use of one of these weights on."""
        for place, equation in enumerate(self.jaxpr.eqns):
            if not paths.isdisjoint(self.used(equation)):
                return self.flops - self.flops_before(place)
        raise AssertionError("none of these weights is used")

    def depthwise_flops(self, paths):
        """What the gradients of these weights cost if they are depthwise kernels.

        On a CPU, XLA computes them as those of a convolution of all channels with
        all, and keeps the diagonal.
        """
        total = 0.0
        for equation in self.jaxpr.eqns:
            if equation.params.get("feature_group_count", 1) == 1:
                continue
            if not paths.isdisjoint(self.used(equation)):
                total += count_kernel_gradient(equation)
        return total


def count_kernel_gradient(equation):
    images, kernel = (variable.aval for variable in equation.invars)

    def gradient(images, kernel, out):
        def convolve(kernel):
            return equation.primitive.bind(images, kernel, **equation.params)

        return jax.vjp(convolve, kernel)[1](out)

    return count(gradient, images, kernel, equation.outvars[0].aval)


forward_of = cache(Forward)


@every_case
def test_a_step_costs_a_forward_pass_and_the_gradients_of_what_is_trained(
    preset, family
):
    """By XLA's own count: nothing is paid for below the first trained layer.

    From there on, the gradients of the activations cost another forward pass of that
    part and those of the kernels a second one, but none if no kernel is trained.
    """
    for phase in phases(preset, family):
        assert cost(family, phase) <= limit(family, phase), phase.name


@pytest.mark.parametrize("family", FAMILIES)
def test_training_everything_costs_at_most_three_forward_passes(family):
    """So nothing is computed twice, and XLA does count gradients."""
    (phase,) = phases("full", family)
    assert 2.5 < cost(family, phase) / forward_of(family).flops < 3.1


def cost(family, phase):
    """What a step costs, but for the gradients of depthwise kernels."""
    paths = frozenset(phase.assign(split(build(family)).params))
    return train(family, phase).flops - forward_of(family).depthwise_flops(paths)


def limit(family, phase):
    """What a step may cost: 1 % of a forward pass is for the loss and the images."""
    forward, params = forward_of(family), split(build(family)).params
    paths = frozenset(phase.assign(params))
    kernels = any(p.startswith("backbone.") and p.endswith(".kernel") for p in paths)
    head_alone = all(path.startswith("head.") for path in paths)
    gradients = (2.2 if kernels or head_alone else 1.4) * forward.flops_from(paths)
    # Adam takes fewer than 20 operations for a parameter.
    optimizer = 20 * sum(params[path].size for path in paths)
    return 1.01 * forward.flops + gradients + optimizer
