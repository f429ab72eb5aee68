"""Files of vision transformers by the names of the packages that write them."""

import json

import numpy as np
import pytest
import torch
from fixtures.marks import slow, slow_but
from fixtures.tiny_vit import IMAGE, IMAGES, SMALL, build_pair, channels_first
from flax import nnx
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from jaxmed.image_stats import CLIP, IMAGENET
from jaxmed.models.registry import create_model
from jaxmed_convert import initialize, to_torch
from jaxmed_convert.vit_names import to_hugging_face

pytestmark = pytest.mark.usefixtures("small_vits")
SETTINGS = {
    "hidden_size": SMALL["width"],
    "num_hidden_layers": SMALL["depth"],
    "num_attention_heads": SMALL["heads"],
    "image_size": IMAGE,
    "patch_size": SMALL["patch"],
}
SOURCES = {
    "rad_dino": (Dinov2Config, Dinov2Model, {}),
    "dinov2_vitg14": (Dinov2Config, Dinov2Model, {"use_swiglu_ffn": True}),
    "dinov2_vitb14_reg": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel, {}),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))


def pooled(model, images):
    run = nnx.jit(lambda model, images: model.stage_input("head", images))
    return np.asarray(run(model, images))


def random_model(kind, network, more):
    torch.manual_seed(0)
    model = network(kind(**SETTINGS, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("architecture", slow_but(("rad_dino",), SOURCES))
def test_hugging_faces_names_both_ways(architecture, tmp_path):
    reference = random_model(*SOURCES[architecture])
    reference.save_pretrained(tmp_path / "theirs")
    model = create_model(architecture, num_classes=3)
    started = initialize(model, f"file:{tmp_path / 'theirs'}")
    assert "Its names are Hugging Face's." in started.message
    images = np.random.default_rng(0).standard_normal((2, 20, 8, 3), np.float32)
    # RAD-DINO's own interpolation, at another size too; DINOv2's own has an offset.
    for given in (IMAGES, images) if architecture == "rad_dino" else (IMAGES,):
        with torch.inference_mode():
            expected = reference(channels_first(given)).pooler_output.numpy()
        np.testing.assert_allclose(pooled(model, given), expected, rtol=1e-4, atol=1e-4)

    state_dict = to_hugging_face(to_torch(model))
    folder = tmp_path / "ours"
    folder.mkdir()
    save_file(
        {n: t.contiguous() for n, t in state_dict.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(reference.config.to_dict()))
    again = SOURCES[architecture][1].from_pretrained(folder).state_dict()
    for name, tensor in reference.state_dict().items():
        if "mask_token" not in name:
            assert torch.equal(again[name], tensor), name


def test_dinov2s_own_names_of_registers_and_gates(tmp_path):
    """Of `register_tokens`, w12 and w3; a mask token is left out."""
    for architecture in ("dinov2_vits14_reg", "dinov2_vitg14"):
        torch.manual_seed(0)
        source = create_model(architecture, num_classes=3, seed=1)
        tensors = {
            n.replace("reg_token", "register_tokens")
            .replace("mlp.fc1", "mlp.w12" if "vitg" in architecture else "mlp.fc1")
            .replace("mlp.fc2", "mlp.w3" if "vitg" in architecture else "mlp.fc2"): t
            for n, t in to_torch(source).items()
            if not n.startswith("head.")
        }
        torch.save(tensors | {"mask_token": torch.zeros(1, 32)}, tmp_path / "w.pth")
        model = create_model(architecture, num_classes=3, seed=2)
        started = initialize(model, f"file:{tmp_path / 'w.pth'}")
        assert "Its names are DINOv2's. Left out, being no part" in started.message
        np.testing.assert_array_equal(pooled(model, IMAGES), pooled(source, IMAGES))


def test_biomedclips_image_tower(tmp_path):
    """open_clip keeps timm's network as "visual.trunk", beside a text tower."""
    reference, expected = build_pair("vit_base_patch16_224")
    tensors = {f"visual.trunk.{n}": t for n, t in reference.state_dict().items()}
    tensors |= {"visual.head.proj.weight": torch.zeros(8, 32)}
    tensors |= {"text.transformer.embeddings.word_embeddings.weight": torch.zeros(9, 4)}
    torch.save(tensors, tmp_path / "open_clip_pytorch_model.bin")
    model = create_model("vit_base_patch16_224", num_classes=2)
    started = initialize(model, f"file:{tmp_path / 'open_clip_pytorch_model.bin'}")
    np.testing.assert_array_equal(pooled(model, IMAGES), pooled(expected, IMAGES))
    assert (model.mean, model.std) == CLIP
    assert "open_clip" in started.scale_reason


@pytest.mark.parametrize("fine_tuned", [False, slow(True)])
def test_masked_autoencoders_with_the_average(fine_tuned, tmp_path):
    """RETFound's file is of pretraining: with a decoder, and a norm of the tokens."""
    reference, expected = build_pair("vit_large_patch16_224", "average")
    tensors = dict(reference.state_dict())
    if not fine_tuned:
        for last in ("weight", "bias"):
            tensors[f"norm.{last}"] = tensors.pop(f"fc_norm.{last}")
        tensors["decoder_blocks.0.norm1.weight"] = torch.ones(16)
        tensors["decoder_pos_embed"] = torch.ones(1, 10, 16)
        tensors["mask_token"] = torch.zeros(1, 1, 16)
        expected.backbone.norm.scale[...] = np.ones(32, np.float32)
        expected.backbone.norm.bias[...] = np.zeros(32, np.float32)
    torch.save({"model": tensors}, tmp_path / "checkpoint.pth")
    model = create_model("vit_large_patch16_224", num_classes=2, pool="average")
    started = initialize(model, f"file:{tmp_path / 'checkpoint.pth'}")
    np.testing.assert_array_equal(pooled(model, IMAGES), pooled(expected, IMAGES))
    fresh = "The norm behind the average is fresh" in started.message
    assert fresh == (not fine_tuned)
    if not fine_tuned:
        assert (model.mean, model.std) == IMAGENET
        assert "masked autoencoder" in started.scale_reason


def test_torchvisions_names_in_timms_network_and_its_old_names(tmp_path):
    reference, expected = build_pair("vit_b_16")
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in reference.state_dict().items()
    }
    for name, tensors in (("new", reference.state_dict()), ("old", old)):
        torch.save(tensors, tmp_path / f"{name}.pth")
        for architecture in ("vit_b_16", "vit_base_patch16_224"):
            model = create_model(architecture, num_classes=2)
            started = initialize(model, f"file:{tmp_path / name}.pth")
            np.testing.assert_array_equal(
                pooled(model, IMAGES), pooled(expected, IMAGES)
            )
            translated = "Its names are torchvision's." in started.message
            assert translated == (architecture != "vit_b_16")


def test_positions_of_another_grid_are_interpolated_as_timm_loads_them(tmp_path):
    reference, _ = build_pair("vit_small_patch14_dinov2", image_size=20)
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    model = create_model("vit_small_patch14_dinov2", num_classes=2)
    started = initialize(model, f"file:{tmp_path / 'w.pth'}")
    expected = resample_abs_pos_embed(reference.pos_embed.detach(), [3, 3])
    found = np.asarray(model.backbone.pos_embed[...])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert "of 5×5 patches is interpolated to 3×3" in started.message
