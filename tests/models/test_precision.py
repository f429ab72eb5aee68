"""bfloat16 is in the layers, and nowhere else."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.models.layers.normalization import norm_paths, set_training_norms
from jaxmed.models.parameters import merge, split, stats_of
from jaxmed.models.precision import precision_of, resolve_precision, set_precision
from jaxmed.models.registry import create_model

# Of numbers near 1: eight bits of mantissa.
EPSILON = float(jnp.finfo(jnp.bfloat16).eps)
SMALLEST = (
    "resnet10_narrow",
    "vgg11_bn",
    "mobilenet_v2",
    "densenet121",
    "efficientnet_b0",
    "convnext_tiny",
    "inception_v3",
    "vit_tiny_patch16_224",
)


class Device:
    """What a device says of itself."""

    def __init__(self, platform, capability=None):
        self.platform = platform
        if capability is not None:
            self.compute_capability = capability


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device("cpu"), "float32"),
        (Device("tpu"), "bfloat16"),
        (Device("gpu", "9.0"), "bfloat16"),
        (Device("gpu", "12.0"), "bfloat16"),
        (Device("gpu", "8.0"), "bfloat16"),
        (Device("gpu", "7.5"), "float32"),
        (Device("gpu", "gfx90a"), "float32"),
    ],
)
def test_auto_is_what_suits_the_device(device, expected):
    assert resolve_precision("auto", device) == expected
    assert resolve_precision("float32", device) == "float32"


def test_an_unknown_precision_is_a_sentence():
    with pytest.raises(InputError, match=r"Did you mean 'bfloat16'"):
        resolve_precision("bfloat61")


def products(jaxpr):
    """The operands' types of all convolutions and products of matrices, in order."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            found.append({str(v.aval.dtype) for v in equation.invars})
        for inner in equation.params.values():
            # A function called, with its constants or without.
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


@pytest.mark.parametrize("architecture", SMALLEST)
def test_every_layer_below_the_head_multiplies_bfloat16(architecture):
    model = create_model(architecture, num_classes=3)
    assert precision_of(model) == "float32"
    set_precision(model, "bfloat16")
    assert precision_of(model) == "bfloat16"
    definition, params, stats = split(model)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    traced = jax.make_jaxpr(lambda w, x: merge(definition, w, {})(x))(
        params | stats, images
    )
    *below, head = products(traced.jaxpr)
    assert len(below) > 4
    assert head == {"float32"}
    assert all(types == {"bfloat16"} for types in below)
    assert traced.out_avals[0].dtype == jnp.float32
    assert {a.dtype for a in params.values()} == {jnp.dtype("float32")}


def test_logits_and_statistics_are_near_float32s_and_gradients_are_float32():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 64, 64, 3)).astype(np.float32)
    model = create_model("resnet10_narrow", num_classes=3)
    set_training_norms(model, norm_paths(model))
    found = {}
    for precision in ("float32", "bfloat16"):
        set_precision(model, precision)
        definition, params, stats = split(model)

        def objective(params, definition=definition, stats=stats):
            model = merge(definition, params, stats)
            logits = model(images)
            return jax.nn.log_softmax(logits)[:, 0].sum(), (logits, stats_of(model))

        found[precision] = jax.jit(jax.grad(objective, has_aux=True))(params)
    (gradients, (logits, stats)), (_, (expected, _)) = (
        found["bfloat16"],
        found["float32"],
    )
    assert logits.dtype == jnp.float32
    scale = np.abs(expected).max()
    # Ten layers deep, each rounds its input, its kernel and its output.
    assert 0 < np.abs(logits - expected).max() < 10 * EPSILON * scale
    for path, array in found["float32"][1][1].items():
        assert stats[path].dtype == jnp.float32
        tolerance = 10 * EPSILON * np.abs(array).max()
        np.testing.assert_allclose(stats[path], array, atol=tolerance, err_msg=path)
    assert {gradient.dtype for gradient in gradients.values()} == {jnp.dtype("float32")}
    # Units near the kink of ReLU fall on its other side, so not each number is near.
    ours, theirs = (
        np.concatenate([np.ravel(which[path]) for path in sorted(which)])
        for which in (gradients, found["float32"][0])
    )
    assert ours @ theirs > 0.98 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def test_float32_again_is_bit_identical():
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    model = create_model("resnet10_narrow", num_classes=3)
    before, definition = model(images), split(model).definition
    set_precision(model, "bfloat16")
    assert split(model).definition != definition
    set_precision(model, "float32")
    assert split(model).definition == definition
    np.testing.assert_array_equal(model(images), before)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("float32", {"HIGHEST": 21}), ("bfloat16", {"DEFAULT": 20, "HIGHEST": 1})],
)
def test_products_of_float32_are_not_rounded_on_accelerators(precision, expected):
    model = create_model("resnet18", num_classes=2)
    if precision == "bfloat16":
        set_precision(model, precision)
    definition, params, stats = split(model)
    call = jax.jit(lambda x: merge(definition, params, stats)(x))
    traced = call.trace(jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        configurations = re.findall(
            r"stablehlo\.(?:convolution|dot_general)[^\n]*precision(?:_config)? = "
            r"\[(?:#stablehlo<precision )?(\w+)",
            text,
        )
        assert Counter(configurations) == expected
