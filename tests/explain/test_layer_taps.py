"""Layers by torchvision's names, in every family: their maps have torch's shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from fixtures.marks import slow_but

from jaxmed.errors import InputError
from jaxmed.explain.layer_taps import (
    activations_and_gradients,
    check_layer,
    layer_names,
)
from jaxmed.models.parameters import Parts, merge, split
from jaxmed.models.registry import create_model
from jaxmed_convert.verify.references import torch_model

LAYERS = {
    "resnet50": ("layer4", "layer3.5", "layer4.1.conv2", "layer2.0.downsample"),
    "vgg16_bn": ("features", "features.40", "features.11"),
    "densenet121": ("features.denseblock3", "features.norm5"),
    "mobilenet_v2": ("features.14.conv", "features.18", "features.2.conv.1.0"),
    "efficientnet_b0": ("features.6", "features.5.1.block.2", "features.8"),
    "convnext_tiny": ("features.5", "features.7.2", "features.6.1", "features.0"),
    "inception_v3": ("Mixed_6e", "Mixed_7b.branch3x3_2b", "Mixed_5d.branch1x1.conv"),
}
SIZE = 96


def their_shapes(architecture, names):
    shapes = {}
    with torch.device("meta"):
        model = torch_model(architecture, num_classes=3).eval()
        modules = dict(model.named_modules())
        for name in names:
            modules[name].register_forward_hook(
                lambda _module, _inputs, output, name=name: shapes.update(
                    {name: tuple(output.shape)}
                )
            )
        model(torch.zeros(2, 3, SIZE, SIZE))
    return shapes


@pytest.mark.parametrize("architecture", slow_but(("resnet50",), LAYERS))
def test_maps_have_the_shapes_of_torchs(architecture):
    expected = their_shapes(architecture, LAYERS[architecture])

    def maps():
        """Traced only: nothing is computed, not even the weights."""
        parts = split(create_model(architecture, num_classes=3))
        images, classes = jnp.zeros((2, SIZE, SIZE, 3)), jnp.zeros(2, int)
        return {
            name: activations_and_gradients(parts, images, classes, name)
            for name in LAYERS[architecture]
        }

    for name, (activations, gradients) in jax.eval_shape(maps).items():
        n, c, h, w = expected[name]
        assert activations.shape == gradients.shape == (n, h, w, c), name


def test_all_parameters_of_a_map_are_below_a_name():
    model = create_model("resnet10_narrow", num_classes=3)
    names = layer_names(model)
    assert {"conv1", "layer3", "layer3.0", "layer3.0.downsample.1"} <= set(names)
    assert not any(name.startswith(("head", "backbone")) for name in names)


def test_the_gradients_sum_is_that_of_the_layers_bias():
    """What is added to a channel everywhere is a bias."""
    model = create_model("resnet10_narrow", num_classes=3)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), float)
    definition, params, stats = split(model)
    name, classes = "layer4.0.bn2", jnp.array([1])

    def both(params):
        parts = Parts(definition, params, stats)
        expected = jax.grad(lambda p: merge(definition, p, stats)(images)[0, 1])(params)
        return activations_and_gradients(parts, images, classes, name)[1], expected

    gradients, expected = jax.jit(both)(params)
    bias = np.asarray(expected[f"backbone.{name}.bias"])
    assert np.abs(bias).max() > 0.01
    assert gradients.sum(axis=(0, 1, 2)) == pytest.approx(bias, abs=1e-6)


def test_layers_that_give_no_map_are_refused():
    model = create_model("resnet10_narrow", num_classes=2)
    check_layer(model, "backbone.layer4", 64)
    with pytest.raises(InputError, match="Unknown layer 'fc'"):
        check_layer(model, "fc", 64)

    def traced():
        check_layer(create_model("vgg11", num_classes=2), "classifier.3", 64)

    with pytest.raises(InputError, match=r"'classifier.3' gives \(4096,\) .* no map"):
        jax.eval_shape(traced)
