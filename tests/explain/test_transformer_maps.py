"""Maps of vision transformers against pytorch-grad-cam's with its reshape, and timm."""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from fixtures.marks import slow
from fixtures.tiny_vit import GRID, IMAGES, build_pair, channels_first
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from jaxmed.errors import InputError
from jaxmed.explain.explanation import explain
from jaxmed.explain.faithfulness import measure_faithfulness
from jaxmed.explain.layer_taps import layer_names
from jaxmed.models.registry import create_model

pytestmark = pytest.mark.usefixtures("small_vits")
CLASSES = np.array([1, 3])
LAYERS = {
    "vit_small_patch14_reg4_dinov2": ("blocks.1.norm1", "blocks.0.attn"),
    "vit_b_16": ("encoder.layers.encoder_layer_1.ln_1",),
}
PREFIX = {"vit_small_patch14_reg4_dinov2": 5, "vit_b_16": 1}


@pytest.fixture(scope="module")
def pairs():
    return {}


def pair(pairs, architecture):
    if architecture not in pairs:
        pairs[architecture] = build_pair(architecture)
    return pairs[architecture]


def their_maps(method, reference, layer, prefix):
    def reshape(tokens):
        patches = tokens[:, prefix:].reshape(len(tokens), GRID, GRID, -1)
        return patches.permute(0, 3, 1, 2)

    layer = dict(reference.named_modules())[layer]
    targets = [ClassifierOutputTarget(c) for c in CLASSES]
    with method(reference, [layer], reshape_transform=reshape) as cam:
        return cam(input_tensor=channels_first(IMAGES), targets=targets)


@pytest.mark.parametrize(
    ("architecture", "name", "method"),
    [
        ("vit_small_patch14_reg4_dinov2", "grad_cam", pytorch_grad_cam.GradCAM),
        ("vit_b_16", "eigen_cam", pytorch_grad_cam.EigenCAM),
        slow("vit_small_patch14_reg4_dinov2", "layer_cam", pytorch_grad_cam.LayerCAM),
        slow("vit_b_16", "grad_cam", pytorch_grad_cam.GradCAM),
    ],
)
def test_maps_are_those_of_pytorch_grad_cam(pairs, architecture, name, method):
    reference, model = pair(pairs, architecture)
    for place, layer in enumerate(LAYERS[architecture]):
        expected = their_maps(method, reference, layer, PREFIX[architecture])
        assert expected.std(axis=(1, 2)).max() > 0.05
        # The first is what is explained unless a layer is named.
        found = explain(
            model, IMAGES, CLASSES, method=name, layer=layer if place else None
        )
        assert found.maps == pytest.approx(expected, rel=0, abs=1e-4), layer
        assert found.raw.shape == (2, GRID, GRID)


@pytest.mark.parametrize("pool", ["own", slow("average")])
def test_attention_rollout_is_that_of_timms_attention(pool):
    reference, model = build_pair("vit_small_patch14_reg4_dinov2", pool)
    seen = []
    for block in reference.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.inference_mode():
        reference(channels_first(IMAGES))
    rolled = np.eye(5 + GRID**2)
    for weights in seen:
        mean = weights.double().numpy().mean(axis=1)
        mixed = mean + np.eye(mean.shape[1])
        rolled = mixed / mixed.sum(axis=2, keepdims=True) @ rolled
    row = rolled[:, 0, 5:] if pool == "own" else rolled[:, 5:, 5:].mean(axis=1)
    found = explain(model, IMAGES, CLASSES, method="attention_rollout")
    assert found.raw == pytest.approx(row.reshape(2, GRID, GRID), rel=1e-4)
    assert found.maps.shape == IMAGES.shape[:3]
    assert not found.degenerate.any()


def test_layers_have_timms_names_and_others_are_sentences():
    model = create_model("vit_b_16", num_classes=2)
    assert {"patch_embed", "blocks.1.mlp.fc2", "norm"} < set(layer_names(model))
    with pytest.raises(InputError, match="Unknown layer 'blocks"):
        explain(model, IMAGES, CLASSES // 3, layer="blocks.9")
    network = create_model("resnet10_narrow", num_classes=2)
    images = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(InputError, match="resnet10_narrow has no attention"):
        explain(network, images, method="attention_rollout")
    with pytest.raises(InputError, match="attention of all blocks and takes no layer"):
        explain(model, IMAGES, method="attention_rollout", layer="blocks.0")


def test_faithfulness_is_measured(pairs):
    _, model = pair(pairs, "vit_b_16")
    found = measure_faithfulness(model, IMAGES, CLASSES, steps=2)
    assert found.stages == ("head", "block1", "block0", "stem")
    assert {"insertion_gain", "road", "rank_correlation"} < found.metrics.keys()
