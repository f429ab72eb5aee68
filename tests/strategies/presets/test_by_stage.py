"""Strategies by stage: what each trains, and at which rate."""

import jax.numpy as jnp
import pytest
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier, Head
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.strategies import Optimizer, create_strategy
from jaxmed.strategies.presets.by_stage import layers_in_order

STAGES = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=2)


def rates(strategy, phase=0):
    return {g.name: g.optimizer.learning_rate for g in strategy.phases[phase].groups}


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({}, ["layer4", "head"]),
        ({"stages": 0}, ["head"]),
        ({"stages": 5}, STAGES),
        ({"from_stage": "layer3"}, ["layer3", "layer4", "head"]),
    ],
)
def test_partial(model, options, trained):
    strategy = create_strategy("partial", model, learning_rate=0.25, **options)
    assert list(rates(strategy)) == trained
    assert rates(strategy) == dict.fromkeys(trained, 0.25) | {"head": 1e-3}
    (phase,) = strategy.summary(model)
    assert phase["frozen"] == [stage for stage in STAGES if stage not in trained]
    paths = strategy.phases[0].assign(split(model).params)
    if "layer3" in trained:
        assert "backbone.layer3.0.conv1.kernel" in paths
    assert ("backbone.conv1.kernel" in paths) == ("stem" in trained)
    norms = strategy.phases[0].training_norms(model)
    assert ("backbone.bn1" in norms) == ("stem" in trained)


def test_the_tutorials_discriminative_rates_leave_the_stem_frozen(model):
    strategy = create_strategy("discriminative", model)
    assert rates(strategy) == dict(
        zip(STAGES[1:], (1e-5, 1e-5, 1e-4, 1e-4, 1e-3), strict=True)
    )
    assert "frozen: stem" in strategy.describe(model)
    every = create_strategy("discriminative", model, rates=[1, 2, 3, 4, 5, 6])
    assert rates(every) == dict(zip(STAGES, range(1, 7), strict=True))
    assert "frozen" not in every.describe(model)


def test_layerwise_decay(model):
    strategy = create_strategy("layerwise_decay", model, learning_rate=32.0, decay=0.5)
    assert rates(strategy) == dict(zip(STAGES, (1, 2, 4, 8, 16, 32), strict=True))


def test_backbone_and_head(model):
    strategy = create_strategy("backbone_and_head", model)
    assert set(rates(strategy).values()) == {1e-4, 1e-3}
    (phase,) = strategy.summary(model)
    assert phase["trainable"] == sum(a.size for a in split(model).params.values())


def test_gradual_unfreezing(model):
    strategy = create_strategy("gradual_unfreezing", model)
    expected = ["head", "layer4", "layer3", "layer2", "layer1", "stem"]
    assert [phase.name for phase in strategy.phases] == expected
    for number, phase in enumerate(strategy.phases):
        assert set(rates(strategy, number)) == set(expected[: number + 1])
        assert phase.epochs == 1


def test_norm_only(model):
    strategy = create_strategy("norm_only", model)
    paths = strategy.phases[0].assign(split(model).params)
    expected = {f"{norm}.{part}" for norm in norm_paths(model) for part in NORM}
    assert set(paths) == expected | {"head.out.kernel", "head.out.bias"}
    assert "and 8 more" in strategy.describe(model)


NORM = ("scale", "bias")


def test_bias_only(model):
    paths = create_strategy("bias_only", model).phases[0].assign(split(model).params)
    expected = {f"{norm}.bias" for norm in norm_paths(model)}
    assert set(paths) == expected | {"head.out.kernel", "head.out.bias"}
    assert set(rates(create_strategy("bias_only", model))) == {"biases", "head"}


def trained_layers(model, **options):
    """The layers of the backbone that `partial` trains, and their parameters."""
    phase = create_strategy("partial", model, **options).phases[0]
    assigned = phase.assign(split(model).params)
    paths = [path for path, group in assigned.items() if group == "last layers"]
    assert set(assigned) - set(paths) == {"head.out.kernel", "head.out.bias"}
    return {path.rpartition(".")[0] for path in paths}, set(paths)


def test_partial_trains_the_last_layers(model):
    order = [path for path in layers_in_order(model) if path.startswith("backbone.")]
    for count in (1, 4, len(order)):
        layers, paths = trained_layers(model, layers=count)
        assert layers == set(order[-count:])
        assert paths == {
            p for p in split(model).params if p.rpartition(".")[0] in layers
        }
        first = order[-count].removeprefix("backbone.")
        assert trained_layers(model, from_layer=first) == (layers, paths)
        assert trained_layers(model, from_layer=order[-count]) == (layers, paths)
    trained = rates(create_strategy("partial", model, layers=2, learning_rate=0.5))
    assert trained == {"last layers": 0.5, "head": 1e-3}


def test_36_layers_of_mobilenet_are_what_keras_tutorial_fine_tunes():
    """From block_11_depthwise on: the tutorial prints 56 variables, two of its head."""
    model = create_model("mobilenet_v2", num_classes=2)
    layers, paths = trained_layers(model, layers=36)
    assert (layers, paths) == trained_layers(model, from_layer="features.12.conv.1.0")
    assert (len(layers), len(paths)) == (36, 54)
    blocks = {path.split(".conv.")[0] for path in layers}
    after = [f"backbone.features.{n}" for n in range(12, 18)]
    last = {"backbone.features.18.0", "backbone.features.18.1"}
    assert blocks == {*after, *last}
    # The first has all but its expansion, a convolution and its normalization.
    inside = {path for path in layers if path.startswith("backbone.features.12.")}
    assert {path.removeprefix("backbone.features.12.conv.") for path in inside} == {
        "1.0",
        "1.1",
        "2",
        "3",
    }


def test_a_layer_scale_is_trained_without_the_layers_of_its_block():
    model = create_model("convnext_tiny", num_classes=2)
    block = "backbone.features.7.2"
    _, paths = trained_layers(model, from_layer="features.7.2")
    norm = {f"backbone.classifier.0.{part}" for part in NORM}
    assert paths == {f"{block}.layer_scale", *norm}
    _, paths = trained_layers(model, from_layer="features.7.2.block.5")
    linear = {f"{block}.block.5.{part}" for part in ("kernel", "bias")}
    assert paths == {f"{block}.layer_scale", *norm, *linear}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("partial", {"stages": 6}, "from 0 to 5, the stages of resnet10_narrow"),
        ("partial", {"stages": -1}, "got -1"),
        ("partial", {"from_stage": "layer5"}, "Did you mean"),
        ("partial", {"layers": -1}, "layers must be from 1 to 24.*got -1"),
        ("partial", {"layers": 99}, "layers must be from 1 to 24.*got 99"),
        ("partial", {"from_layer": "layer4.0.conv9"}, "Did you mean 'layer4.0.conv"),
        (
            "partial",
            {"layers": 2, "from_stage": "layer4"},
            "from_stage and layers excl",
        ),
        ("partial", {"layers": 2, "stages": 2}, "stages and layers exclude each other"),
        (
            "partial",
            {"layers": 2, "from_layer": "bn1"},
            "layers and from_layer exclude",
        ),
        ("partial", {"stages": 0, "from_stage": "layer4"}, "stages and from_stage"),
        ("discriminative", {"rates": [1.0] * 7}, "1 to 6 numbers.*got 7"),
        ("discriminative", {"rates": ["fast"]}, "a list, each a number, got"),
        ("layerwise_decay", {"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
    ],
)
def test_bad_input_is_a_sentence(model, name, options, message):
    with pytest.raises(InputError, match=message):
        create_strategy(name, model, **options)


@pytest.fixture(scope="module")
def transformer():
    """A vision transformer of 7 blocks, which nothing is computed with."""

    def build():
        rngs = nnx.Rngs(0)
        backbone = VisionTransformer(16, 16, 7, 2, grid=14, registers=2, rngs=rngs)
        head = Head("linear", 16, 2, hidden_features=1, dropout=0, rngs=rngs)
        return Classifier("vit_small_patch14_reg4_dinov2", backbone, head)

    return build()


def beit_layer(path, blocks):
    """BEiT's `get_num_layer_for_vit`, which MAE's `get_layer_id_for_vit` is too."""
    if path in ("cls_token", "mask_token", "pos_embed", "reg_token"):
        return 0
    if path.startswith("patch_embed"):
        return 0
    if path.startswith("blocks"):
        return int(path.split(".")[1]) + 1
    return blocks + 1


def test_layerwise_decay_of_blocks_is_beits_and_maes(transformer):
    options = {"learning_rate": 1.0, "decay": 0.75}
    strategy = create_strategy("layerwise_decay", transformer, **options)
    groups = strategy.phases[0].assign(split(transformer).params)
    assert len(groups) == len(split(transformer).params)
    for path, group in groups.items():
        layer = beit_layer(path.removeprefix("backbone."), 7)
        assert rates(strategy)[group] == pytest.approx(0.75 ** (8 - layer)), path


def test_blocks_are_grouped_from_the_last_down(transformer):
    groups = ["stem", "block0", "block1-block3", "block4-block6", "head"]
    decay = create_strategy("layerwise_decay", transformer, stages_per_group=3)
    assert list(rates(decay)) == groups
    tuned = {"rates": [1.0, 2.0, 3.0], "stages_per_group": 3}
    strategy = create_strategy("discriminative", transformer, **tuned)
    assert rates(strategy) == dict(zip(groups[2:], (1, 2, 3), strict=True))
    paths = strategy.phases[0].assign(split(transformer).params)
    assert paths["backbone.blocks.1.attn.qkv.kernel"] == "block1-block3"
    unfreezing = create_strategy("gradual_unfreezing", transformer, stages_per_group=3)
    assert [phase.name for phase in unfreezing.phases] == groups[::-1]
    with pytest.raises(InputError, match="stages_per_group must be at least 1, got 0"):
        create_strategy("discriminative", transformer, stages_per_group=0)


def test_the_last_blocks_and_single_kinds_of_parameters(transformer):
    params = split(transformer).params
    paths = create_strategy("partial", transformer, stages=2).phases[0].assign(params)
    expected = ("backbone.blocks.5.", "backbone.blocks.6.", "backbone.norm.", "head.")
    assert set(paths) == {path for path in params if path.startswith(expected)}
    norms = create_strategy("norm_only", transformer).phases[0].assign(params)
    assert set(norms) == {p for p in params if "norm" in p or p.startswith("head.")}
    biases = create_strategy("bias_only", transformer).phases[0].assign(params)
    assert set(biases) == {
        p for p in params if p.endswith(".bias") or p.startswith("head.")
    }


def test_kernels_alone_decay_on_request(transformer):
    """timm's `param_groups_weight_decay` with the network's `no_weight_decay`."""
    params = split(transformer).params
    adamw = Optimizer(
        name="adamw", learning_rate=0.1, weight_decay=1.0, decay_bias_and_norm=False
    )
    transformation = adamw.transformation()
    nothing = {path: jnp.zeros_like(array) for path, array in params.items()}
    ones = {path: jnp.ones_like(array) for path, array in params.items()}
    updates, _ = transformation.update(nothing, transformation.init(ones), ones)
    decayed = {path for path, update in updates.items() if update.any()}
    assert decayed == {path for path in params if path.endswith(".kernel")}
