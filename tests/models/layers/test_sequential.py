"""Numbered modules: torch's names, and everything nnx does with a module."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from jaxmed.models.layers.normalization import BatchNorm, norm_paths, set_training_norms
from jaxmed.models.layers.sequential import Numbered
from jaxmed.models.parameters import dotted, merge, split

NUMBERS = (0, 1, 3, 11)  # 11 would come before 3 if numbers were sorted as text


class Net(nnx.Module):
    def __init__(self, rngs):
        self.features = Numbered(
            {
                11: nnx.Linear(4, 2, rngs=rngs),
                0: nnx.Linear(3, 4, rngs=rngs),
                1: BatchNorm(4),
                3: nnx.Linear(4, 4, rngs=rngs),
            }
        )

    def __call__(self, x):
        for _, layer in self.features.items():
            x = layer(x)
        return x


@pytest.fixture
def net():
    return Net(nnx.Rngs(0))


def test_paths_are_those_of_torchs_sequential(net):
    rest = [torch.nn.ReLU() for _ in range(7)]
    layers = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(),
        torch.nn.Linear(4, 4),
        *rest,
        torch.nn.Linear(4, 2),
    )
    expected = {name.split(".")[0] for name in layers.state_dict()}
    modules = [dotted(path) for path, _ in nnx.iter_modules(net.features)]
    assert set(modules) == {"", *expected}
    assert {path.split(".")[1] for path in split(net).params} == expected


def test_the_modules_come_in_the_order_of_their_numbers(net):
    assert tuple(number for number, _ in net.features.items()) == NUMBERS
    assert net.features[1] is dict(net.features.items())[1]
    assert len(net.features) == 12


def test_split_and_merge_give_the_same_network(net):
    x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    for copy in (merge(*split(net)), nnx.merge(*nnx.split(net)), nnx.clone(net)):
        assert tuple(number for number, _ in copy.features.items()) == NUMBERS
        assert np.array_equal(copy(x), net(x))
        assert split(copy).definition == split(net).definition


def test_jit_grad_and_eval_shape(net):
    x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    definition, params, stats = split(net)

    @jax.jit
    def gradients(params):
        return jax.grad(lambda p: merge(definition, p, stats)(x).sum())(params)

    assert gradients(params).keys() == params.keys()
    assert np.array_equal(nnx.jit(lambda net, x: net(x))(net, x), net(x))
    shapes = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    paths = {dotted(path) for path, _ in nnx.to_flat_state(nnx.state(shapes))}
    assert paths == params.keys() | stats.keys()


def test_norms_inside_are_found(net):
    assert norm_paths(net) == ["features.1"]
    set_training_norms(net, ["features.1"])
    assert net.features[1].training


def test_a_module_can_be_replaced(net):
    net.features[3] = nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(1))
    assert "features.3.bias" not in split(net).params
    assert "features.3.kernel" in split(net).params
