"""Optimizers against their papers' algorithms, written out in NumPy."""

import numpy as np
import pytest
import torch

from jaxmed.strategies import Group, Optimizer, Phase

STEPS, RATE = 20, 0.1
SHAPES = {"backbone.kernel": (3, 4), "backbone.bias": (4,), "head.kernel": (5, 2)}


def lion(weights, gradients, decay):
    """Algorithm 2 of Chen et al."""
    beta1, beta2, momentum = 0.9, 0.99, np.zeros_like(weights)
    for gradient in gradients:
        update = np.sign(beta1 * momentum + (1 - beta1) * gradient)
        momentum = beta2 * momentum + (1 - beta2) * gradient
        weights = weights - RATE * (update + decay * weights)
    return weights


def lamb(weights, gradients, decay):
    """Algorithm 2 of You et al., with phi the identity."""
    beta1, beta2 = 0.9, 0.999
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for t, gradient in enumerate(gradients, start=1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        ratio = first / (1 - beta1**t) / (np.sqrt(second / (1 - beta2**t)) + 1e-6)
        step = ratio + decay * weights
        trust = np.linalg.norm(weights) / np.linalg.norm(step)
        weights = weights - RATE * trust * step
    return weights


def muon(weights, gradients, decay):
    """Jordan et al.'s, with the kernel as a matrix of (outputs, inputs)."""
    shape, outputs = weights.shape, weights.shape[-1]
    weights = weights.reshape(-1, outputs).T
    momentum = np.zeros_like(weights)
    for gradient in gradients:
        gradient = gradient.reshape(-1, outputs).T
        momentum = 0.95 * momentum + 0.05 * gradient
        x = 0.05 * gradient + 0.95 * momentum
        x = x / np.linalg.norm(x)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        x = x * np.sqrt(max(1, x.shape[0] / x.shape[1]))
        weights = weights * (1 - RATE * decay) - RATE * x
    return weights.T.reshape(shape)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("algorithm", [lion, lamb])
def test_lion_and_lamb_are_their_papers(same, draw, train, algorithm, decay):
    start, gradients = draw(SHAPES)
    ours = Optimizer(name=algorithm.__name__, learning_rate=RATE, weight_decay=decay)
    expected = {
        path: algorithm(array, [g[path] for g in gradients], decay)
        for path, array in start.items()
    }
    same(train(ours.transformation(), start, gradients), expected, rtol=1e-8)


@pytest.mark.parametrize("name", ["lion", "lamb"])
def test_the_others_first_beta_follows_one_cycle(same, draw, train, name):
    """What a cycle held at one momentum gives is what that momentum gives."""
    start, gradients = draw(SHAPES)
    optimizer = Optimizer(name=name, learning_rate=RATE)
    given = optimizer.transformation(rate=lambda _: RATE, momentum=lambda _: 0.9)
    expected = train(optimizer.transformation(), start, gradients)
    same(train(given, start, gradients), expected)
    other = optimizer.transformation(rate=lambda _: RATE, momentum=lambda _: 0.5)
    weights = train(other, start, gradients)
    assert not np.allclose(weights["head.kernel"], expected["head.kernel"])


def phase(*groups, **options):
    return Phase(name="p", groups=groups, **({"epochs": 1} | options))


def group(pattern, **options):
    optimizer = Optimizer(**({"learning_rate": RATE} | options))
    return Group(name=pattern, patterns=(pattern,), optimizer=optimizer)


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3, 2, 5), (1, 1, 2, 8)])
def test_muon_orthogonalises_kernels_and_leaves_the_rest_to_adamw(
    same, draw, train, train_torch, shape, every
):
    """In a group of its own, beside another."""
    shapes = {"conv.kernel": shape, "conv.bias": (4,), "head.kernel": (5, 2)}
    start, gradients = draw(shapes)
    settings = {"weight_decay": 0.1, "decay_bias_and_norm": every}
    both = phase(group("conv", name="muon", **settings), group("head", name="sgd"))
    expected = train_torch(
        lambda params: torch.optim.AdamW(
            [params["conv.bias"]], lr=RATE, weight_decay=0.1 if every else 0
        ),
        start,
        gradients,
    )
    expected["conv.kernel"] = muon(
        start["conv.kernel"], [g["conv.kernel"] for g in gradients], 0.1
    )
    expected["head.kernel"] = start["head.kernel"] - RATE * sum(
        g["head.kernel"] for g in gradients
    )
    same(train(both.transformation(shapes), start, gradients), expected, rtol=1e-8)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_muon_is_torchs_but_for_its_precision(draw, train, train_torch, shape):
    """Torch orthogonalises in bfloat16: a step may be off by 2**-8 of the rate."""
    start, gradients = draw({"kernel": shape})
    ours = Optimizer(name="muon", learning_rate=RATE, weight_decay=0.1)
    moved = train(ours.transformation(), start, gradients)["kernel"]
    transposed = [{"kernel": g["kernel"].T} for g in gradients]
    theirs = train_torch(
        lambda params: torch.optim.Muon(params.values(), lr=RATE, weight_decay=0.1),
        {"kernel": start["kernel"].T},
        transposed,
    )["kernel"].T
    assert np.sqrt(np.mean((moved - theirs) ** 2)) < 2**-8 * STEPS * RATE
    assert np.abs(moved - start["kernel"]).max() > 0.5


def test_muon_takes_singular_values_near_one(train):
    optimizer = Optimizer(name="muon", learning_rate=1.0)
    start = {"kernel": np.zeros((3, 3, 4, 8))}
    gradient = {"kernel": np.random.default_rng(0).normal(size=(3, 3, 4, 8))}
    moved = train(optimizer.transformation(), start, [gradient])["kernel"]
    values = np.linalg.svd(moved.reshape(36, 8), compute_uv=False)
    assert ((values > 0.6) & (values < 1.3)).all()
