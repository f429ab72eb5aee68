"""Optimizers against torch's."""

import numpy as np
import optax
import pytest
import torch

from jaxmed.errors import InputError
from jaxmed.strategies import Group, Optimizer, Phase
from jaxmed.strategies.schedules import Schedule

STEPS, RATE = 20, 0.1
SHAPES = {"backbone.kernel": (3, 4), "backbone.bias": (4,), "head.kernel": (5, 2)}


CLASSES = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


TORCHS = [
    ("sgd", {"weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", {}),
    ("adam", {"weight_decay": 0.1}),
    ("adamw", {}),
    ("adamw", {"weight_decay": 0.1}),
]


def phase(*groups, **options):
    return Phase(name="p", groups=groups, **({"epochs": 1} | options))


def group(pattern, **options):
    optimizer = Optimizer(**({"learning_rate": RATE} | options))
    return Group(name=pattern, patterns=(pattern,), optimizer=optimizer)


@pytest.mark.parametrize(("name", "options"), TORCHS)
def test_sgd_adam_and_adamw_are_torchs(same, draw, train, train_torch, name, options):
    options = {"weight_decay": 0.0} | options
    ours = Optimizer(name=name, learning_rate=RATE, **options).transformation()
    expected = train_torch(
        lambda params: CLASSES[name](params.values(), lr=RATE, **options), *draw(SHAPES)
    )
    same(train(ours, *draw(SHAPES)), expected, rtol=1e-10)


@pytest.mark.parametrize(("name", "options"), TORCHS)
def test_one_cycle_moves_rate_and_momentum_as_torch(
    same, draw, train, train_torch, name, options
):
    options = {"weight_decay": 0.0} | options
    cycled = phase(
        group("*", name=name, **options), epochs=4, schedule=Schedule(name="one_cycle")
    )
    expected = train_torch(
        lambda params: CLASSES[name](params.values(), lr=RATE, **options),
        *draw(SHAPES),
        highest_rate=RATE,
    )
    ours = train(cycled.transformation(SHAPES, STEPS // 4), *draw(SHAPES))
    same(ours, expected, rtol=2e-6)


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_biases_are_left_out_of_the_decay_as_by_torchs_groups(
    same, draw, train, train_torch, name, cycle
):
    own = group("*", name=name, weight_decay=0.3, decay_bias_and_norm=False)
    ours = phase(
        own, epochs=STEPS, schedule=Schedule(name="one_cycle" if cycle else "constant")
    )

    def make(params):
        decayed = [param for path, param in params.items() if path.endswith("kernel")]
        rest = [param for path, param in params.items() if path.endswith("bias")]
        return CLASSES[name](
            [{"params": decayed, "weight_decay": 0.3}, {"params": rest}],
            lr=RATE,
            weight_decay=0.0,
        )

    expected = train_torch(make, *draw(SHAPES), highest_rate=RATE if cycle else None)
    same(train(ours.transformation(SHAPES), *draw(SHAPES)), expected, rtol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "lamb", "muon"])
def test_what_is_one_number_a_channel_is_left_out_of_the_decay(train, name):
    """ConvNeXt's layer scale has three axes, and a single logit's kernel two."""
    shapes = {"layer_scale": (1, 1, 4), "scale": (4,), "kernel": (4, 1)}
    start = {path: np.ones(shape) for path, shape in shapes.items()}
    nothing = [{path: np.zeros(shape) for path, shape in shapes.items()}]
    optimizer = Optimizer(
        name=name, learning_rate=RATE, weight_decay=0.5, decay_bias_and_norm=False
    )
    weights = train(optimizer.transformation(), start, nothing)
    assert (weights["layer_scale"] == 1).all()
    assert (weights["scale"] == 1).all()
    assert (weights["kernel"] < 1).all()


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_pull_is_torchs_gradient_of_the_l2_sp_penalty(same, draw, train, name):
    """Eq. 3 of Li et al.: alpha / 2 |w - w0|² on top of the loss."""
    alpha, (start, gradients) = 0.3, draw(SHAPES)
    params = {p: torch.nn.Parameter(torch.from_numpy(a)) for p, a in start.items()}
    origin = {p: param.detach().clone() for p, param in params.items()}
    start = {p: array.copy() for p, array in start.items()}
    theirs = CLASSES[name](params.values(), lr=RATE)
    for gradient in gradients:
        theirs.zero_grad()
        loss = sum(
            (param * torch.from_numpy(gradient[p])).sum()
            + alpha / 2 * ((param - origin[p]) ** 2).sum()
            for p, param in params.items()
        )
        loss.backward()
        theirs.step()
    ours = Optimizer(name=name, learning_rate=RATE, l2_sp=alpha)
    expected = {p: param.detach().numpy() for p, param in params.items()}
    same(train(ours.transformation(), start, gradients), expected, rtol=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_an_optimizer_of_ones_own_gets_the_rate(draw, train, schedule):
    optimizer = {"name": "mine", "make": lambda r: optax.adagrad(r, 0.0, eps=1e-10)}
    mine = phase(
        group("*", **optimizer),
        epochs=STEPS,
        schedule=Schedule(name=schedule, gamma=0.9),
    )
    gamma = 1.0 if schedule == "constant" else 0.9
    start, gradients = draw(SHAPES)
    weights = train(mine.transformation(SHAPES), start, gradients)
    for path, expected in start.items():
        total = np.zeros_like(expected)
        for step, gradient in enumerate(gradients):
            total = total + gradient[path] ** 2
            expected = expected - RATE * gamma**step * gradient[path] / np.sqrt(total)
        np.testing.assert_allclose(weights[path], expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "lamb", "muon"])
def test_a_rate_of_zero_moves_nothing(draw, train, name, schedule):
    still = group("*", name=name, learning_rate=0, weight_decay=0.1, l2_sp=1)
    transformation = phase(still, schedule=Schedule(name=schedule)).transformation(
        SHAPES, STEPS
    )
    start, gradients = draw(SHAPES)
    weights = train(transformation, start, gradients)
    for path, array in start.items():
        np.testing.assert_array_equal(weights[path], array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamm"}, "Unknown optimizer 'adamm'. Did you mean 'adam'"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"l2_sp": -1}, "l2_sp must be at least 0, got -1"),
        ({"name": "sgd", "momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        ({"name": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
        ({"momentum": 0.9}, "momentum is a setting of sgd, not of adam"),
    ],
)
def test_a_wrong_optimizer_is_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Optimizer(**({"learning_rate": 1} | options))
