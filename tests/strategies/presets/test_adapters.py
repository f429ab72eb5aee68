"""LoRA: what it adds, what it computes, and what is left when it is merged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures.marks import slow
from fixtures.tiny_vit import IMAGES
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.parameters import load, merge, split
from jaxmed.models.precision import set_precision
from jaxmed.models.registry import create_model
from jaxmed.strategies import create_strategy, merge_adapter
from jaxmed.strategies.adapter import add_adapter, merged

RNG = np.random.default_rng(0)


def adapted(model, **options):
    """The model with updates that are not zero."""
    strategy = create_strategy("lora", model, **options)
    add_adapter(model, strategy.adapter)
    arrays = {
        path: RNG.normal(0, 0.3, array.shape).astype(np.float32)
        if path.endswith(".b")
        else array
        for path, array in split(model).params.items()
    }
    load(model, arrays | split(model).stats)
    return model


def logits(model, images, **options):
    run = nnx.jit(lambda model, images: model(images, **options))
    return np.asarray(run(model, images))


@pytest.fixture
def transformer(small_vits):
    return create_model("vit_small_patch16_224", num_classes=3)


@pytest.fixture
def images():
    return RNG.standard_normal((2, 32, 32, 3), np.float32)


def test_fresh_updates_change_no_bit_and_kernels_keep_their_names(transformer):
    before, params = logits(transformer, IMAGES), split(transformer).params
    strategy = create_strategy("lora", transformer)
    assert "lora" not in str(split(transformer).params.keys())
    add_adapter(transformer, strategy.adapter)
    assert np.array_equal(logits(transformer, IMAGES), before)
    after = split(transformer).params
    assert all(np.array_equal(params[path], after[path]) for path in params)
    # Of queries and values, as in the paper.
    added = after.keys() - params.keys()
    assert added == {
        f"backbone.blocks.{block}.attn.qkv.lora_{part}.{matrix}"
        for block in (0, 1)
        for part in "qv"
        for matrix in "ab"
    }
    assert after["backbone.blocks.0.attn.qkv.lora_v.a"].shape == (32, 8)
    assert after["backbone.blocks.0.attn.qkv.lora_v.b"].shape == (8, 32)
    trained = strategy.phases[0].assign(after)
    assert set(trained) == added | {"head.out.kernel", "head.out.bias"}


@pytest.mark.parametrize(
    "layers",
    [(), slow(("qkv", "fc1")), ("blocks.1.attn.k", "proj"), slow(("*",))],
)
def test_merged_transformers_compute_what_adapted_ones_do(layers, small_vits):
    model = adapted(
        create_model("vit_small_patch16_224", num_classes=3), layers=list(layers)
    )
    plain = create_model("vit_small_patch16_224", num_classes=3)
    expected = logits(model, IMAGES)
    assert np.abs(expected - logits(plain, IMAGES)).max() > 1e-2
    merge_adapter(model)
    np.testing.assert_allclose(logits(model, IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert split(model).definition == split(plain).definition
    assert split(model).params.keys() == split(plain).params.keys()


def test_merged_networks_compute_what_adapted_ones_do(images):
    """Of 1×1 convolutions, here with strides."""
    model = adapted(create_model("resnet10_narrow", num_classes=3), rank=2)
    plain = create_model("resnet10_narrow", num_classes=3)
    names = {path.rpartition(".lora")[0] for path in split(model).params}
    for name in names - {""}:
        assert split(plain).params[f"{name}.kernel"].shape[:2] == (1, 1)
    expected = logits(model, images)
    assert np.abs(expected - logits(plain, images)).max() > 1e-2
    copy = merged(model)
    np.testing.assert_allclose(logits(copy, images), expected, rtol=1e-3, atol=1e-4)
    assert split(copy).definition == split(plain).definition
    # The model that the copy is of still has its updates.
    assert model.adapter is not None
    assert np.array_equal(logits(model, images), expected)


def test_the_update_is_the_papers(transformer):
    """Eq. 3 with torch's linear layers, alpha / r in front, on a slice of qkv."""
    torch = pytest.importorskip("torch")
    model = adapted(transformer, rank=4, alpha=6.0)
    layer = model.backbone.blocks[1].attn.qkv
    x = RNG.standard_normal((2, 7, 32), np.float32)
    tensors = {
        name: torch.from_numpy(np.array(array)).double()
        for name, array in split(layer).params.items()
    }
    inputs = torch.from_numpy(x).double()
    expected = inputs @ tensors["kernel"] + tensors["bias"]
    for part, start in (("q", 0), ("v", 64)):
        update = inputs @ tensors[f"lora_{part}.a"] @ tensors[f"lora_{part}.b"]
        expected[..., start : start + 32] += 6 / 4 * update
    np.testing.assert_allclose(layer(x), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_dropout_is_of_the_updates_and_of_training_alone(transformer):
    model = adapted(transformer, dropout=0.5)
    plain = logits(model, IMAGES)
    definition, params, stats = split(model)

    @jax.jit
    def drop(params, seed):
        rngs = nnx.Rngs(dropout=jax.random.key(seed))
        return merge(definition, params, stats)(IMAGES, rngs=rngs)

    first, again, other = (np.asarray(drop(params, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.abs(first - plain).max() > 1e-3 < np.abs(first - other).max()
    nothing = {p: jnp.zeros_like(a) if ".lora" in p else a for p, a in params.items()}
    quiet = np.asarray(drop(nothing, 0))
    assert np.array_equal(quiet, np.asarray(drop(nothing, 1)))


@pytest.mark.slow
def test_updates_multiply_bfloat16_and_stay_float32(transformer):
    model = adapted(transformer)
    exact = logits(model, IMAGES)
    set_precision(model, "bfloat16")
    tokens = RNG.standard_normal((2, 7, 32), np.float32)
    assert model.backbone.blocks[0].attn.qkv(tokens).dtype == jnp.bfloat16
    assert {a.dtype for a in split(model).params.values()} == {jnp.dtype("float32")}
    error = np.abs(logits(model, IMAGES) - exact).max()
    assert 0 < error < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "lora: rank must be at least 1, got 0"),
        ({"alpha": 0.0}, r"lora: alpha must be above 0, got 0\.0"),
        ({"dropout": 1.0}, r"lora: dropout must be in \[0, 1\), got 1\.0"),
        ({"layers": ["fc9"]}, "matches 'fc9'. Their names end in "),
        ({"layers": ["q", "qkv"]}, "chosen as a whole and in part"),
    ],
)
def test_bad_options_are_sentences(options, message, transformer):
    with pytest.raises(InputError, match=message):
        create_strategy("lora", transformer, **options)


def test_other_updates_need_a_merged_model(transformer):
    model = adapted(transformer, rank=2)
    with pytest.raises(InputError, match="that another strategy has added"):
        create_strategy("lora", model, rank=3)
    merge_adapter(model)
    create_strategy("lora", model, rank=3)


def test_a_sequence_keeps_what_its_strategies_add(transformer):
    first = {"strategy": "lora", "rank": 2, "epochs": 1}
    strategy = create_strategy(
        "sequence", transformer, phases=[{"strategy": "frozen"}, first]
    )
    assert strategy.adapter == create_strategy("lora", transformer, rank=2).adapter
    assert [phase.name for phase in strategy.phases] == ["head", "lora"]
    with pytest.raises(InputError, match="of a sequence add different parameters"):
        create_strategy("sequence", transformer, phases=[first, first | {"rank": 3}])
