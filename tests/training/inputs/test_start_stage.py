"""The first stage that a phase has to compute in every step."""

import pytest
from flax import nnx

from jaxmed.models.backbones.convnext import ConvNeXt
from jaxmed.models.classifier import Classifier, Head
from jaxmed.models.registry import create_model
from jaxmed.strategies import Group, Optimizer, Phase, create_strategy
from jaxmed.training.inputs.cache_plan import find_start_stage

SIZE = 32


@pytest.fixture(scope="module")
def resnet():
    return create_model("resnet10_narrow", num_classes=3)


def phase_of(*patterns, **settings):
    optimizer = Optimizer(name="adam", learning_rate=1e-3)
    group = Group(name="some", patterns=patterns, optimizer=optimizer)
    return Phase(name="some", epochs=2, groups=(group,), **settings)


def entries(model, strategy, **options):
    phases = create_strategy(strategy, model, **options).phases
    return [find_start_stage(model, phase, SIZE) for phase in phases]


@pytest.mark.parametrize(
    ("strategy", "options", "stages"),
    [
        ("frozen", {}, ["head"]),
        ("full", {}, ["stem"]),
        ("two_phase", {}, ["head", "stem"]),
        ("partial", {"stages": 2}, ["layer3"]),
        ("partial", {"layers": 1}, ["layer4"]),
        ("discriminative", {}, ["layer1"]),
        ("bias_only", {}, ["stem"]),
        (
            "gradual_unfreezing",
            {},
            ["head", "layer4", "layer3", "layer2", "layer1", "stem"],
        ),
    ],
)
def test_training_enters_the_first_trained_stage(resnet, strategy, options, stages):
    assert entries(resnet, strategy, **options) == [(s, "is trained") for s in stages]


def test_updating_statistics_are_not_frozen(resnet):
    updating = phase_of("head", updating_bn_stats=("backbone.layer2",))
    why = "updates its BatchNorm statistics"
    assert find_start_stage(resnet, updating, SIZE) == ("layer2", why)
    behind = phase_of("backbone.layer1", "head", updating_bn_stats=("backbone.layer2",))
    assert find_start_stage(resnet, behind, SIZE) == ("layer1", "is trained")


def convnext(drop_probability):
    rngs = nnx.Rngs(0)
    backbone = ConvNeXt((1, 2, 1, 1), (4, 4, 6, 8), drop_probability, rngs=rngs)
    head = Head("linear", 8, 3, hidden_features=1, dropout=0.0, rngs=rngs)
    return Classifier("convnext_tiny", backbone, head)


def test_stochastic_depth_acts_only_beside_a_trained_stage():
    """The first block is never dropped, so that its stage stays as it is."""
    partial = phase_of("backbone.features.7", "head")
    random = find_start_stage(convnext(0.3), partial, SIZE)
    assert random == ("stage2", "has stochastic depth")
    assert find_start_stage(convnext(0.0), partial, SIZE) == ("stage4", "is trained")
    assert find_start_stage(convnext(0.3), phase_of("head"), SIZE).stage == "head"


def test_a_norm_behind_the_pooling_belongs_to_the_last_stage():
    model = convnext(0.0)
    phase = phase_of("backbone.classifier.0", "head")
    assert find_start_stage(model, phase, SIZE) == ("stage4", "is trained")
