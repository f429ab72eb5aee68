"""EfficientNet's options, stages, random parts and initial weights: torchvision's."""

from itertools import chain

import jax
import numpy as np
import pytest
import torch
from fixtures.marks import slow, slow_but
from flax import nnx
from scipy.stats import ks_2samp
from torchvision.models import efficientnet_b0, get_model
from torchvision.ops import StochasticDepth

from jaxmed.models.backbone import run_stages
from jaxmed.models.backbones import efficientnet
from jaxmed.models.backbones.efficientnet import CONFIGURATIONS, EfficientNet, build
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.parameters import dotted, split
from jaxmed.models.registry import create_model


def _abstract(architecture):
    return nnx.eval_shape(lambda: build(architecture, in_channels=3, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    "architecture", slow_but(("efficientnet_b0", "efficientnet_v2_s"), CONFIGURATIONS)
)
def test_norms_and_stochastic_depth_are_torchvisions(architecture):
    """What no tensor's name or shape shows."""
    with torch.device("meta"):
        reference = get_model(architecture, weights=None)
    norms, drops, shortcuts = {}, {}, {}
    for name, module in reference.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            norms[name] = (module.eps, module.momentum)
        if isinstance(module, StochasticDepth):
            block = name.removesuffix(".stochastic_depth")
            drops[block] = pytest.approx(module.p)
            shortcuts[block] = reference.get_submodule(block).use_res_connect
    modules = {dotted(p): m for p, m in nnx.iter_modules(_abstract(architecture))}
    ours = {p: m for p, m in modules.items() if isinstance(m, BatchNorm)}
    blocks = {p: m for p, m in modules.items() if isinstance(m, efficientnet.MBConv)}
    assert {p: (m.epsilon, m.momentum) for p, m in ours.items()} == norms
    assert {p: m.drop for p, m in blocks.items()} == drops
    assert {p: m.shortcut for p, m in blocks.items()} == shortcuts


@pytest.mark.parametrize("architecture", ["efficientnet_b0", "efficientnet_v2_s"])
def test_stages_end_where_the_map_is_halved(architecture):
    with torch.device("meta"):
        reference = get_model(architecture, weights=None).features.eval()
        x, sizes = torch.zeros(1, 3, 64, 64), []
        for module in reference:
            x = module(x)
            sizes.append(x.shape[-1])
    stages = _abstract(architecture).stages
    assert [name for name, _ in stages] == [
        "stem",
        *(f"stage{i}" for i in range(1, 5)),
    ]
    numbers = [[int(p.removeprefix("features.")) for p in paths] for _, paths in stages]
    assert list(chain(*numbers)) == list(range(len(reference)))
    assert [{sizes[n] for n in stage} for stage in numbers] == [
        {32},
        {16},
        {8},
        {4},
        {2},
    ]


@pytest.mark.slow
def test_blocks_are_dropped_only_with_a_random_stream():
    rows = [efficientnet.Blocks(i < 2, 4, 3, 2, 8, 3) for i in range(4)]
    layers = efficientnet.LayerOptions({})
    model = EfficientNet(rows, stem=8, last=16, layers=layers, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).standard_normal((8, 32, 32, 3), np.float32)

    @nnx.jit
    def run(model, images, key):
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return run_stages(model, images, rngs=rngs)

    plain = np.asarray(run(model, images, None))
    assert np.array_equal(plain, run(model, images, None))
    first = np.asarray(run(model, images, jax.random.key(0)))
    assert np.array_equal(first, run(model, images, jax.random.key(0)))
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, run(model, images, jax.random.key(1)))


@pytest.mark.slow
def test_only_the_blocks_with_a_shortcut_can_be_dropped():
    row = efficientnet.Blocks(False, 6, 3, 2, 16, 1)
    x = np.random.default_rng(0).standard_normal((50, 4, 4, 8), np.float32)
    for stride, out, dropped in ((1, 8, True), (2, 8, False), (1, 16, False)):
        block = efficientnet.MBConv(
            8,
            row._replace(out_channels=out),
            stride=stride,
            drop=0.5,
            layers=efficientnet.LayerOptions({}),
            rngs=nnx.Rngs(0),
        )
        output = block(x, mask=None, rngs=nnx.Rngs(dropout=0))
        plain = block(x, mask=None, rngs=None)
        if not dropped:
            assert np.array_equal(output, plain)
            continue
        gone = np.all(np.asarray(output) == x, axis=(1, 2, 3))
        assert 0.2 < gone.mean() < 0.8
        # What is not dropped counts twice.
        np.testing.assert_allclose(
            (output - x)[~gone], 2 * (plain - x)[~gone], rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("size", [(1, 1), slow((33, 70))])
def test_any_size_and_any_number_of_channels(size):
    def shape():
        model = create_model("efficientnet_v2_s", num_classes=5, in_channels=7)
        return model.features(np.zeros((2, *size, 7), np.float32))

    expected = [-(-side // 32) for side in size]
    assert nnx.eval_shape(shape).shape == (2, *expected, 1280)


def test_initial_weights_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    theirs = efficientnet_b0().state_dict()
    ours = split(build("efficientnet_b0", in_channels=3, rngs=nnx.Rngs(0))).params
    for path, array in ours.items():
        name = path.replace("kernel", "weight").replace("scale", "weight")
        values, other = np.ravel(array), theirs[name].numpy().ravel()
        if np.ptp(other) == 0:  # biases, and BatchNorm's ones
            assert np.array_equal(values, other)
            continue
        assert ks_2samp(values[:50_000], other[:50_000]).pvalue > 1e-4, path
