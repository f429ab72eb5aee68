"""Vision transformers against torchvision's, timm's and Hugging Face's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
import torchvision
from fixtures.marks import slow
from fixtures.tiny_vit import CASES, GRID, IMAGE, IMAGES, build_pair, channels_first
from flax import nnx
from torchvision.models.vision_transformer import interpolate_embeddings

from jaxmed.errors import InputError
from jaxmed.models.backbones import vit
from jaxmed.models.parameters import merge, split
from jaxmed.models.precision import set_precision
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, to_torch
from jaxmed_convert.rules import head_module
from jaxmed_convert.torch_vit import torch_vit
from jaxmed_convert.verify.parity import TOLERANCE, jax_outputs, torch_outputs


def agree(found, expected) -> bool:
    difference = np.abs(np.asarray(found) - np.asarray(expected)).max()
    return bool(difference <= TOLERANCE * np.abs(np.asarray(expected)).max())


def logits(model, images):
    return nnx.jit(lambda model, images: model(images))(model, images)


@pytest.mark.usefixtures("small_vits")
@pytest.mark.parametrize(("architecture", "pool"), CASES)
def test_every_output_is_torchs_and_the_round_trip_is_bit_identical(architecture, pool):
    reference, model = build_pair(architecture, pool)
    head = head_module(architecture, pool)
    expected = torch_outputs(reference, IMAGES, head)
    found = {name: output for name, (_, output) in jax_outputs(model, IMAGES).items()}
    shared = found.keys() & expected.keys()
    for number in (0, 1):
        assert any(name.endswith((f"blocks.{number}", f"_{number}")) for name in shared)
    assert head in shared
    # timm normalizes the tokens of each of the last blocks by themselves.
    for name in shared - {"norm"} if pool.startswith("last") else shared:
        assert agree(found[name], expected[name]), name
    given, back = reference.state_dict(), to_torch(model)
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) for name in given)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vit_small_patch16_224", "dinov2_vits14"])
def test_logits_of_whole_networks_agree(architecture):
    reference, model = build_pair(architecture)
    size = model.backbone.grid * model.backbone.patch
    images = np.random.default_rng(0).standard_normal((1, size, size, 3), np.float32)
    with torch.inference_mode():
        assert agree(logits(model, images), reference(channels_first(images)))


@pytest.mark.slow
def test_configurations_are_timms_and_torchvisions():
    """By the names and shapes of all tensors; torchvision's by their number, too."""
    compared = 0
    for name, settings in vit.CONFIGURATIONS.items():
        size = settings["grid"] * settings["patch"]
        with torch.device("meta"):
            if timm.is_model(name):
                theirs = timm.create_model(name, num_classes=7)
            elif settings.get("interpolation") == vit.TORCHVISION:
                base = "_".join(name.split("_")[:3])
                theirs = torchvision.models.get_model(
                    base, weights=None, image_size=size, num_classes=7
                )
            else:
                continue
            ours = torch_vit(name, num_classes=7)
        expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
        assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == (
            expected
        )
        assert type(ours).__name__ == type(theirs).__name__
        compared += 1
    assert compared == 17


SIZES = [(20, 12), slow((8, 8)), slow((28, 36))]


@pytest.mark.usefixtures("small_vits")
@pytest.mark.parametrize("size", SIZES)
def test_positions_are_interpolated_as_timm_does(size):
    reference, model = build_pair("vit_small_patch14_reg4_dinov2")
    dynamic = torch_vit(
        "vit_small_patch14_reg4_dinov2", num_classes=5, dynamic_img_size=True
    ).eval()
    dynamic.load_state_dict(reference.state_dict())
    images = np.random.default_rng(1).standard_normal((2, *size, 3), np.float32)
    with torch.inference_mode():
        expected = dynamic(channels_first(images))
    assert agree(logits(model, images), expected)


@pytest.mark.usefixtures("small_vits")
def test_positions_are_interpolated_as_torchvision_does():
    reference, model = build_pair("vit_b_16")
    resized = interpolate_embeddings(20, 4, dict(reference.state_dict()))
    larger = torch_vit("vit_b_16", image_size=20, num_classes=5).eval()
    larger.load_state_dict(resized)
    images = np.random.default_rng(1).standard_normal((2, 20, 20, 3), np.float32)
    with torch.inference_mode():
        assert agree(logits(model, images), larger(channels_first(images)))


@pytest.mark.parametrize("new", [(3, 3), (16, 20), (37, 9)])
def test_positions_are_interpolated_as_dinov2_does(new):
    """Its `interpolate_pos_encoding`, which gives torch the scale, not the size."""
    positions = np.random.default_rng(0).standard_normal((1, 50, 6), np.float32)
    grid = torch.from_numpy(positions[:, 1:]).reshape(1, 7, 7, 6).permute(0, 3, 1, 2)
    scale = tuple((side + 0.1) / 7 for side in new)
    if new[0] / 7 == 37 / 7:
        scale = ((37 + 0.1) / 7, scale[1])
    expected = torch.nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
    assert expected.shape[2:] == new
    found = vit.resize_positions(positions, 7, new, vit.DINOV2)
    assert np.array_equal(found[:, :1], positions[:, :1])
    assert agree(found[0, 1:], expected.permute(0, 2, 3, 1).reshape(-1, 6))


def test_a_size_that_patches_do_not_fill_is_a_sentence():
    model = nnx.eval_shape(lambda: create_model("vit_b_16", num_classes=2))
    message = (
        r"patches of 16×16 pixels, which do not fill 100×96 pixels\. .* as 96 or 112"
    )
    with pytest.raises(InputError, match=message):
        nnx.eval_shape(lambda m: m(jnp.zeros((1, 100, 96, 3))), model)


def test_a_pool_of_tokens_is_for_vision_transformers():
    with pytest.raises(InputError, match="resnet18 has no class token"):
        create_model("resnet18", num_classes=2, pool="last_4_and_average")


@pytest.mark.slow
@pytest.mark.usefixtures("small_vits")
def test_attention_in_double_precision_is_that_of_jax():
    """Where the softmax is ours: the values and gradients of JAX's own, to rounding."""
    attention = create_model("vit_b_16", num_classes=2).backbone.blocks[0].attn
    parts = split(attention)
    kernels = {p: 10 * np.asarray(a) for p, a in parts.params.items()}
    tokens = np.random.default_rng(0).standard_normal((2, 10, 32))

    def run(dtype):
        def total(params):
            model = merge(parts.definition, params, {})
            return (model(jnp.asarray(tokens, dtype)) ** 2).sum()

        params = {p: jnp.asarray(a, dtype) for p, a in kernels.items()}
        return jax.jit(jax.value_and_grad(total))(params)

    value, gradients = run(jnp.float32)
    with jax.enable_x64(True):
        expected, slopes = run(jnp.float64)
    assert value == pytest.approx(float(expected), rel=1e-5)
    for path, slope in slopes.items():
        assert slope.dtype == jnp.float64
        assert agree(gradients[path], slope) or "qkv.bias" in path


@pytest.mark.usefixtures("small_vits")
def test_softmax_and_norms_are_float32_in_bfloat16():
    model = create_model("vit_small_patch14_reg4_dinov2", num_classes=2)
    set_precision(model, "bfloat16")
    definition, params, stats = split(model)
    traced = jax.make_jaxpr(lambda w, x: merge(definition, w, stats)(x))(params, IMAGES)
    kinds: dict[str, set[str]] = {}

    def look(jaxpr):
        for equation in jaxpr.eqns:
            types = kinds.setdefault(equation.primitive.name, set())
            types |= {str(v.aval.dtype) for v in equation.invars}
            for inner in equation.params.values():
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    look(inner)

    look(traced.jaxpr)
    # Softmax: exp and the largest; norms: the square root and sums.
    assert kinds["exp"] == kinds["rsqrt"] == kinds["reduce_max"] == {"float32"}
    assert kinds["reduce_sum"] == {"float32"}
    assert "bfloat16" in kinds["dot_general"]


@pytest.mark.usefixtures("small_vits")
def test_the_pools_take_what_dinov2_takes():
    """Of four blocks or fewer, all: timm's `forward_intermediates` is the judge."""
    reference, model = build_pair("vit_small_patch14_reg4_dinov2", "own")
    with torch.inference_mode():
        outputs = reference.forward_intermediates(
            channels_first(IMAGES), norm=True, return_prefix_tokens=True,
            output_fmt="NLC", intermediates_only=True,
        )  # fmt: skip
    classes = [prefix[:, 0].numpy() for _, prefix in outputs]
    mean = outputs[-1][0].mean(dim=1).numpy()
    state_dict = {n: t for n, t in to_torch(model).items() if not n.startswith("head")}
    for pool, expected in (
        ("class_and_average", [classes[-1], mean]),
        ("last_4_and_average", [*classes, mean]),
    ):
        other = create_model("vit_small_patch14_reg4_dinov2", num_classes=5, pool=pool)
        features = other.backbone.num_features
        head = {"head.weight": torch.zeros(5, features), "head.bias": torch.zeros(5)}
        from_torch(other, state_dict | head)
        pooled = nnx.jit(lambda m, x: m.stage_input("head", x))(other, IMAGES)
        assert agree(pooled, np.concatenate(expected, axis=1))


@pytest.mark.slow
@pytest.mark.usefixtures("small_vits")
def test_five_blocks_keep_the_class_tokens_of_the_last_four(monkeypatch):
    name = "vit_small_patch16_224"
    monkeypatch.setitem(
        vit.CONFIGURATIONS, name, vit.CONFIGURATIONS[name] | {"depth": 5}
    )
    reference, model = build_pair(name, "last_4_and_average")
    assert model.backbone.num_features == 5 * 32
    with torch.inference_mode():
        assert agree(logits(model, IMAGES), reference(channels_first(IMAGES)))
    tokens = model.features(IMAGES, stop="block4")
    assert tokens.shape == (2, 1 + GRID**2 + 3, 32)
    assert IMAGE == 12
