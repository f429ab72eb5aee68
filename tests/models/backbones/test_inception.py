"""Inception V3: initial weights, the smallest image, and the rescaled input."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import ks_2samp
from torchvision.models import inception_v3

from jaxmed.data.transforms.preprocess import IMAGENET_MEAN, IMAGENET_STD
from jaxmed.errors import InputError
from jaxmed.models.backbones.inception import TransformInput
from jaxmed.models.parameters import load, merge, split
from jaxmed.models.registry import create_model


@pytest.fixture(scope="module")
def model():
    return create_model("inception_v3", num_classes=3)


def test_initial_weights_are_distributed_as_torchvisions(model):
    theirs = inception_v3(aux_logits=False, init_weights=True).state_dict()
    kernels = {
        p: a for p, a in split(model).params.items() if p.endswith("conv.kernel")
    }
    assert len(kernels) == 94
    for path, array in kernels.items():
        name = path.removeprefix("backbone.").replace("kernel", "weight")
        ours, other = np.ravel(array)[:20_000], theirs[name].numpy().ravel()[:20_000]
        assert ks_2samp(ours, other).pvalue > 1e-5, path
        assert ours.std() == pytest.approx(0.1, rel=5 / np.sqrt(ours.size))


@pytest.mark.parametrize("size", [(74, 299), (96, 32)])
def test_too_small_images_are_a_sentence(size):
    def features(images):
        return create_model("inception_v3", num_classes=3).features(images)

    images = np.zeros((1, 75, 75, 3), np.float32)
    assert nnx.eval_shape(features, images).shape == (1, 1, 1, 2048)
    with pytest.raises(InputError, match=f"at least 75×75 pixels, got {size[0]}×"):
        nnx.eval_shape(features, np.zeros((1, *size, 3), np.float32))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_input_is_rescaled_to_plus_minus_one(channels):
    """Images that went through ImageNet's normalization come out between -1 and 1."""
    images = np.random.default_rng(0).random((2, 5, 5, channels), np.float32)
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    if channels != 3:
        mean, std = mean.mean(), std.mean()
    normalized = ((images - mean) / std).astype(np.float32)
    transform = TransformInput()
    assert np.array_equal(transform(normalized), normalized)
    transform.on[...] = jnp.ones(())
    np.testing.assert_allclose(transform(normalized), 2 * images - 1, atol=1e-6)


def test_the_switch_goes_where_the_weights_go(model):
    parts = split(model)
    path = "backbone.transform_input.on"
    assert path in parts.stats
    on = parts.stats | {path: jnp.ones(())}
    other = create_model("inception_v3", num_classes=3, seed=1)
    load(other, parts.params | on)
    assert split(other).stats[path] == 1
    assert split(merge(parts.definition, parts.params, on)).stats[path] == 1
    assert split(model).stats[path] == 0
