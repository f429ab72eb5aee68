"""create_model: names, heads, shapes, and initial weights as torchvision draws them."""

import math

import numpy as np
import pytest
import torch
from fixtures.marks import FIRST_OF_FAMILIES, slow_but
from flax import nnx
from scipy.stats import ks_2samp
from torchvision.models import resnet18

from jaxmed.errors import InputError
from jaxmed.models.backbones import vit
from jaxmed.models.layers.normalization import norm_momenta
from jaxmed.models.parameters import dotted, split
from jaxmed.models.registry import ARCHITECTURES, create_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet81"}, "Unknown backbone 'resnet81'. Did you mean 'resnet18'?"),
        ({"name": "zzz"}, f"Unknown backbone 'zzz'. Known: {min(ARCHITECTURES)}, "),
        ({"head": "liner"}, "Unknown head 'liner'. Did you mean 'linear'?"),
        ({"pool": "mean"}, "Unknown pool 'mean'. Known: average, class_and_average, "),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0."),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0."),
        ({"hidden_features": -1}, "hidden_features must be at least 1, got -1."),
        ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0."),
        ({"dropout": -0.1}, "dropout must be in [0, 1), got -0.1."),
        ({"norm_momentum": 1.5}, "norm_momentum must be in [0, 1], got 1.5."),
    ],
)
def test_bad_input_is_a_sentence(options, message):
    options = {"name": "resnet18", "num_classes": 2} | options
    with pytest.raises(InputError) as caught:
        create_model(options.pop("name"), **options)
    assert str(caught.value).startswith(message)


def test_the_momentum_of_batch_norm_is_the_architectures_or_the_given_one():
    """Of the same layers, and without touching weights."""
    lite = create_model("efficientnet_lite0", num_classes=2)
    assert norm_momenta(lite) == [0.01]
    other = create_model("efficientnet_lite0", num_classes=2, norm_momentum=0.1)
    assert norm_momenta(other) == [0.1]
    parts, others = split(lite), split(other)
    np.testing.assert_array_equal(
        parts.params["backbone.features.0.0.kernel"],
        others.params["backbone.features.0.0.kernel"],
    )


# The last map of an image of 100×75 pixels, by the start of the architecture's name,
# where it is not a 32nd rounded up.
MAPS = {"vgg": (3, 2), "densenet": (3, 2), "convnext": (3, 2), "inception": (1, 1)}


@pytest.mark.parametrize(
    "architecture",
    slow_but((*FIRST_OF_FAMILIES, "resnet50", "efficientnet_v2_s"), ARCHITECTURES),
)
def test_every_architecture_has_torchvisions_output_shapes(architecture):
    def shapes(images):
        model = create_model(architecture, num_classes=7)
        features = model.features(images)
        return model, features, model.classify(features)

    is_transformer = architecture in vit.CONFIGURATIONS
    size = (448, 224) if is_transformer else (100, 75)
    images = np.zeros((2, *size, 3), np.float32)
    model, features, logits = nnx.eval_shape(shapes, images)
    if is_transformer:
        patch, prefix = model.backbone.patch, model.backbone.prefix
        assert features.shape[1] == prefix + (448 // patch) * (224 // patch)
    else:
        sizes = [s for start, s in MAPS.items() if architecture.startswith(start)]
        assert features.shape[1:3] == (sizes[0] if sizes else (4, 3))
    assert logits.shape == (2, 7)
    _check_stages(model)


def _check_stages(model):
    """Every parameter is in one stage, and no stage is without."""
    stages = model.stages
    assert list(stages)[-1] == "head"
    used = set()
    for path, _ in nnx.to_flat_state(nnx.state(model)):
        homes = [
            name
            for name, prefixes in stages.items()
            if any(f"{dotted(path)}.".startswith(f"{prefix}.") for prefix in prefixes)
        ]
        assert len(homes) == 1, path
        used.update(homes)
    assert used == set(stages)


@pytest.mark.parametrize("head", ["linear", "dropout", "hidden"])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_heads_and_channels(head, in_channels):
    model = create_model(
        "resnet10_narrow",
        num_classes=4,
        in_channels=in_channels,
        head=head,
        hidden_features=9,
    )
    assert model(np.zeros((2, 64, 64, in_channels), np.float32)).shape == (2, 4)
    sizes = {p: a.shape for p, a in split(model).params.items() if "head" in p}
    expected = {"head.out.kernel": (128, 4), "head.out.bias": (4,)}
    if head == "hidden":
        expected |= {
            "head.hidden.kernel": (128, 9),
            "head.hidden.bias": (9,),
            "head.out.kernel": (9, 4),
        }
    assert sizes == expected


def test_the_stages_come_from_the_image_up():
    model = create_model("resnet10_narrow", num_classes=4)
    stages = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert list(model.stages) == stages


@pytest.mark.parametrize("architecture", FIRST_OF_FAMILIES)
def test_the_definition_can_be_a_static_argument_of_compiled_code(architecture):
    model = nnx.eval_shape(lambda: create_model(architecture, num_classes=2))
    definition, _ = nnx.split(model)
    again, _ = nnx.split(nnx.eval_shape(lambda: nnx.clone(model)))
    assert hash(definition) == hash(again)
    assert definition == again


def test_dropout_needs_a_random_stream_and_keeps_the_mean():
    model = create_model("resnet10_narrow", num_classes=4, head="dropout", dropout=0.25)
    ones = np.ones((4000, 128), np.float32)
    plain = model.head(ones)
    assert np.array_equal(plain, model.head(ones))
    dropped = np.asarray(model.head(ones, rngs=nnx.Rngs(dropout=0)))
    assert not np.array_equal(dropped, plain)
    # The mean of 4000 draws: its standard error is the spread over √4000.
    error = dropped.std(axis=0) / math.sqrt(len(dropped))
    assert np.all(np.abs(dropped.mean(axis=0) - plain[0]) < 5 * error)
    # Var = Σ w² p / (1 - p).
    weights = np.asarray(split(model).params["head.out.kernel"])
    spread = np.sqrt((weights**2).sum(axis=0) * 0.25 / 0.75)
    np.testing.assert_allclose(dropped.std(axis=0), spread, rtol=0.1)


def test_the_seed_decides():
    first, same, other = (
        split(create_model("resnet10_narrow", num_classes=3, seed=seed)).params
        for seed in (0, 0, 1)
    )
    drawn = [path for path, array in first.items() if np.unique(array).size > 1]
    assert len(drawn) == 1 + 4 * 2 + 3 + 2
    assert all(np.array_equal(first[path], same[path]) for path in first)
    assert not any(np.array_equal(first[path], other[path]) for path in drawn)


def test_layers_of_one_shape_are_drawn_apart():
    params = split(create_model("resnet18", num_classes=3)).params
    kernels = [a for a in params.values() if a.shape == (3, 3, 64, 64)]
    assert len(kernels) == 4
    assert len({np.asarray(kernel).tobytes() for kernel in kernels}) == 4


def test_initial_weights_are_distributed_as_torchvisions():
    """Two-sample Kolmogorov-Smirnov tests, layer by layer."""
    torch.manual_seed(0)
    theirs = resnet18(num_classes=1000).state_dict()
    params = split(create_model("resnet18", num_classes=1000)).params
    for path, array in params.items():
        name = path.removeprefix("backbone.").replace("head.out", "fc")
        name = name.replace("kernel", "weight").replace("scale", "weight")
        ours, other = np.ravel(array), theirs[name].numpy().ravel()
        assert ours.shape == other.shape
        if np.ptp(other) == 0:  # BatchNorm starts with ones and zeros
            assert np.array_equal(ours, other)
            continue
        assert ks_2samp(ours[:50_000], other[:50_000]).pvalue > 1e-4, path
        assert ours.std() == pytest.approx(other.std(), rel=0.05)
    assert all(not np.any(theirs[n].numpy()) for n in theirs if n.endswith("mean"))
