"""ConvNeXt against torchvision: what weights and logits do not show."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy.stats import ks_2samp
from torchvision.models import ConvNeXt as Reference
from torchvision.models import get_model
from torchvision.models.convnext import CNBlockConfig
from torchvision.ops import StochasticDepth

from jaxmed.errors import InputError
from jaxmed.models.backbone import run_stages
from jaxmed.models.backbones.convnext import CONFIGURATIONS, Block, ConvNeXt, build
from jaxmed.models.parameters import merge, split

DEPTHS, WIDTHS = (1, 1, 2, 1), (24, 32, 40, 48)


@pytest.fixture(scope="module")
def backbone():
    return ConvNeXt(DEPTHS, WIDTHS, 0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_stochastic_depth_rises_as_torchvisions(architecture):
    with torch.device("meta"):
        reference = get_model(architecture, weights=None)
    expected = [m.p for m in reference.modules() if isinstance(m, StochasticDepth)]
    model = nnx.eval_shape(lambda: build(architecture, in_channels=3, rngs=nnx.Rngs(0)))
    blocks = [b for _, b in nnx.iter_modules(model) if isinstance(b, Block)]
    assert [b.drop_probability for b in blocks] == pytest.approx(expected)


def test_initial_weights_are_distributed_as_torchvisions(backbone):
    torch.manual_seed(0)
    after = (*WIDTHS[1:], None)
    settings = [CNBlockConfig(*row) for row in zip(WIDTHS, after, DEPTHS, strict=True)]
    theirs = Reference(settings).state_dict()
    for path, array in split(backbone).params.items():
        name = path.replace("kernel", "weight").replace("scale", "weight")
        name = name.replace("layer_weight", "layer_scale")
        ours, other = np.ravel(array), theirs[name].numpy().ravel()
        assert ours.shape == other.shape
        if np.ptp(other) == 0:  # norms, biases and the scales of layers
            assert np.array_equal(ours, other), path
            continue
        assert ks_2samp(ours, other).pvalue > 1e-4, path
        # Standard deviations of n draws spread by about 0.7 / √n.
        assert ours.std() == pytest.approx(other.std(), rel=5 / np.sqrt(ours.size))


def test_branches_are_dropped_only_with_a_random_stream(backbone):
    parts = split(backbone)
    # At first the branches are scaled by 1e-6 and hardly matter.
    ones = {p: jnp.ones_like(a) for p, a in parts.params.items() if "layer_scale" in p}
    model = merge(parts.definition, parts.params | ones, parts.stats)
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32)

    def features(key):
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return run_stages(model, images, rngs=rngs)

    plain = features(None)
    assert np.array_equal(plain, features(None))
    dropped = features(0)
    assert not np.array_equal(dropped, plain)
    assert np.array_equal(dropped, features(0))


def test_too_small_images_are_a_sentence(backbone):
    assert run_stages(backbone, jnp.zeros((1, 32, 40, 3))).shape == (1, 1, 1, 48)
    with pytest.raises(InputError, match=r"at least 32×32 pixels, got 64×31\."):
        run_stages(backbone, jnp.zeros((1, 64, 31, 3)))
