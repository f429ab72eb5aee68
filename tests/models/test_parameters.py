"""Taking models apart, putting them together, filling them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmed.models.parameters import load, merge, split, stats_of, update
from jaxmed.models.registry import create_model

IMAGES = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)


@pytest.fixture(scope="module")
def model():
    return create_model("resnet10_narrow", num_classes=3, head="hidden")


def test_paths_are_torchvisions_below_backbone(model):
    parts = split(model)
    assert {
        "backbone.conv1.kernel",
        "backbone.bn1.scale",
        "backbone.layer2.0.downsample.0.kernel",
        "backbone.layer4.0.bn2.bias",
        "head.hidden.kernel",
        "head.out.bias",
    } < parts.params.keys()
    assert "backbone.layer2.0.downsample.1.mean" in parts.stats
    assert all(path.endswith((".mean", ".var")) for path in parts.stats)
    assert not parts.params.keys() & parts.stats.keys()
    assert stats_of(model).keys() == parts.stats.keys()
    hash(parts.definition)


def test_merge_is_the_inverse_of_split(model):
    parts = split(model)
    again = merge(*parts)
    other = split(again)
    assert other.definition == parts.definition
    assert all(other.params[path] is parts.params[path] for path in parts.params)
    assert np.array_equal(again(IMAGES), model(IMAGES))


def test_merge_works_inside_a_gradient(model):
    parts = split(model)

    @jax.jit
    def loss(params, stats):
        return jnp.square(merge(parts.definition, params, stats)(IMAGES)).sum()

    gradients = jax.grad(loss)(parts.params, parts.stats)
    assert gradients.keys() == parts.params.keys()
    assert float(jnp.abs(gradients["backbone.conv1.kernel"]).max()) > 0


def test_load_copies_every_array():
    source = create_model("resnet10_narrow", num_classes=3, seed=1)
    target = create_model("resnet10_narrow", num_classes=3, seed=2)
    parts = split(source)
    shifted = {path: array + 0.5 for path, array in parts.stats.items()}
    load(target, parts.params | shifted)
    loaded = split(target)
    for path, array in (parts.params | shifted).items():
        assert np.array_equal((loaded.params | loaded.stats)[path], array)


def test_load_names_what_does_not_fit(model):
    parts = split(model)
    arrays = parts.params | parts.stats
    del arrays["backbone.bn1.mean"]
    arrays["backbone.extra.scale"] = jnp.ones(2)
    arrays["head.out.bias"] = jnp.ones(7)
    with pytest.raises(ValueError, match="do not fit") as caught:
        load(model, arrays)
    for path in ("backbone.bn1.mean", "backbone.extra.scale", "head.out.bias"):
        assert path in str(caught.value)
    assert "head.out.kernel" not in str(caught.value)
    assert np.array_equal(
        split(model).params["head.out.bias"], parts.params["head.out.bias"]
    )


def test_an_abstract_model_has_shapes_and_is_checked_alike(model):
    def build():
        return create_model("resnet10_narrow", num_classes=3, head="hidden")

    abstract, real = nnx.eval_shape(build), split(model)
    parts = split(abstract)
    shapes = {p: array.shape for p, array in (real.params | real.stats).items()}
    assert {p: leaf.shape for p, leaf in (parts.params | parts.stats).items()} == shapes
    arrays = dict(real.params | real.stats)
    kernel, bias = "backbone.conv1.kernel", "head.out.bias"
    update(abstract, {kernel: arrays[kernel]})
    assert isinstance(split(abstract).params[kernel], jax.ShapeDtypeStruct)
    with pytest.raises(ValueError, match=r"do not fit the model: head\.out\.bias"):
        update(abstract, {bias: jnp.zeros(4)})
    # What is a shape alone is checked and stays one; what is an array fills the model.
    load(abstract, arrays | {bias: jax.ShapeDtypeStruct((3,), jnp.float32)})
    filled = split(abstract).params
    assert isinstance(filled[bias], jax.ShapeDtypeStruct)
    np.testing.assert_array_equal(filled[kernel], arrays[kernel])
    arrays["head.out.bias"] = jnp.zeros(4)
    with pytest.raises(ValueError, match=r"do not fit the model: head\.out\.bias"):
        load(abstract, arrays)
