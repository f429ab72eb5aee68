"""Optimisers against torch's, and against their papers' algorithms in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxmed.errors import InputError
from jaxmed.strategies import Group, Optimizer, Phase
from jaxmed.strategies.schedule import Schedule

STEPS, RATE = 20, 0.1
SHAPES = {"backbone.kernel": (3, 4), "backbone.bias": (4,), "head.kernel": (5, 2)}


def draw(seed=0):
    """Weights by path, and a gradient of each for every step, float64."""
    random = np.random.default_rng(seed)
    start = {path: random.normal(size=shape) for path, shape in SHAPES.items()}
    gradients = [
        {path: random.normal(size=shape) for path, shape in SHAPES.items()}
        for _ in range(STEPS)
    ]
    return start, gradients


def train(transformation, start, gradients):
    """Our weights at the end, in double precision: in single, 1 - 0.999 alone is wrong
    by 5e-5."""
    with jax.enable_x64(True):
        params = {path: jnp.asarray(array) for path, array in start.items()}
        state = transformation.init(params)
        update = jax.jit(transformation.update)
        for gradient in gradients:
            gradient = {path: jnp.asarray(gradient[path]) for path in params}
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return {path: np.asarray(array) for path, array in params.items()}


def train_torch(make, start, gradients, *, clip=None, cycle=False):
    """Torch's weights at the end; `make` gets the parameters by path."""
    params = {
        path: torch.nn.Parameter(torch.from_numpy(array.copy()))
        for path, array in start.items()
    }
    optimizer = make(params)
    if cycle:
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=len(gradients)
        )
    for gradient in gradients:
        for path, param in params.items():
            param.grad = torch.from_numpy(gradient[path].copy())
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
        if cycle:
            cycle.step()
    return {path: param.detach().numpy() for path, param in params.items()}


def same(ours, expected, rtol=1e-6):
    assert ours.keys() == expected.keys()
    for path, array in ours.items():
        np.testing.assert_allclose(array, expected[path], rtol=rtol, err_msg=path)


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
CLASSES = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize(("name", "options"), TORCHS)
def test_sgd_adam_and_adamw_are_torchs(name, options):
    options = {"weight_decay": 0.0} | options
    ours = Optimizer(name=name, learning_rate=RATE, **options).transformation()
    expected = train_torch(
        lambda params: CLASSES[name](params.values(), lr=RATE, **options), *draw()
    )
    same(train(ours, *draw()), expected, rtol=1e-10)


def phase(*groups, **options):
    return Phase(name="p", groups=groups, **({"epochs": 1} | options))


def group(pattern, **options):
    optimizer = Optimizer(**({"learning_rate": RATE} | options))
    return Group(name=pattern, patterns=(pattern,), optimizer=optimizer)


@pytest.mark.parametrize(("name", "options"), TORCHS)
def test_one_cycle_moves_rate_and_momentum_as_torch(name, options):
    options = {"weight_decay": 0.0} | options
    cycled = phase(
        group("*", name=name, **options), epochs=4, schedule=Schedule(name="one_cycle")
    )
    expected = train_torch(
        lambda params: CLASSES[name](params.values(), lr=RATE, **options),
        *draw(),
        cycle=True,
    )
    ours = train(cycled.transformation(SHAPES, STEPS // 4), *draw())
    same(ours, expected, rtol=2e-6)


def test_clipping_is_torchs_over_the_trained_parameters_of_all_groups():
    trained = [path for path in SHAPES if path != "backbone.bias"]
    clipped = phase(
        group("backbone.kernel", name="sgd", momentum=0.9, weight_decay=0.1),
        group("head", name="adam", learning_rate=0.01),
        clip_norm=4.5,
    )
    start, gradients = draw()
    own = {path: start[path] for path in trained}
    norms = [np.sqrt(sum((g[p] ** 2).sum() for p in trained)) for g in gradients]
    assert min(norms) < 4.5 < max(norms)

    class Both:
        def __init__(self, params):
            kernel, head = (params[path] for path in trained)
            self.parts = (
                torch.optim.SGD([kernel], lr=RATE, momentum=0.9, weight_decay=0.1),
                torch.optim.Adam([head], lr=0.01),
            )

        def step(self):
            for part in self.parts:
                part.step()

    expected = train_torch(Both, own, gradients, clip=4.5)
    # Torch adds 1e-6 to the norm.
    same(train(clipped.transformation(trained), own, gradients), expected, rtol=1e-5)
    wrong = train_torch(Both, start, gradients, clip=4.5)  # Sees the bias, too.
    assert np.abs(wrong["backbone.kernel"] - expected["backbone.kernel"]).max() > 1e-3


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_biases_are_left_out_of_the_decay_as_by_torchs_groups(name, cycle):
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

    expected = train_torch(make, *draw(), cycle=cycle)
    same(train(ours.transformation(SHAPES), *draw()), expected, rtol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "lamb", "muon"])
def test_what_is_one_number_a_channel_is_left_out_of_the_decay(name):
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
def test_lion_and_lamb_are_their_papers(algorithm, decay):
    start, gradients = draw()
    ours = Optimizer(name=algorithm.__name__, learning_rate=RATE, weight_decay=decay)
    expected = {
        path: algorithm(array, [g[path] for g in gradients], decay)
        for path, array in start.items()
    }
    same(train(ours.transformation(), start, gradients), expected, rtol=1e-8)


@pytest.mark.parametrize("name", ["lion", "lamb"])
def test_the_others_first_beta_follows_one_cycle(name):
    """What a cycle held at one momentum gives is what that momentum gives."""
    start, gradients = draw()
    optimizer = Optimizer(name=name, learning_rate=RATE)
    given = optimizer.transformation(rate=lambda _: RATE, momentum=lambda _: 0.9)
    expected = train(optimizer.transformation(), start, gradients)
    same(train(given, start, gradients), expected)
    other = optimizer.transformation(rate=lambda _: RATE, momentum=lambda _: 0.5)
    weights = train(other, start, gradients)
    assert not np.allclose(weights["head.kernel"], expected["head.kernel"])


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3, 2, 5), (1, 1, 2, 8)])
def test_muon_orthogonalises_kernels_and_leaves_the_rest_to_adamw(shape, every):
    """In a group of its own, beside another."""
    random = np.random.default_rng(0)
    shapes = {"conv.kernel": shape, "conv.bias": (4,), "head.kernel": (5, 2)}
    start = {path: random.normal(size=size) for path, size in shapes.items()}
    gradients = [
        {path: random.normal(size=size) for path, size in shapes.items()}
        for _ in range(STEPS)
    ]
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
def test_muon_is_torchs_but_for_its_precision(shape):
    """Torch orthogonalises in bfloat16: a step may be off by 2**-8 of the rate."""
    random = np.random.default_rng(0)
    start = {"kernel": random.normal(size=shape)}
    gradients = [{"kernel": random.normal(size=shape)} for _ in range(STEPS)]
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


def test_muon_takes_singular_values_near_one():
    optimizer = Optimizer(name="muon", learning_rate=1.0)
    start = {"kernel": np.zeros((3, 3, 4, 8))}
    gradient = {"kernel": np.random.default_rng(0).normal(size=(3, 3, 4, 8))}
    moved = train(optimizer.transformation(), start, [gradient])["kernel"]
    values = np.linalg.svd(moved.reshape(36, 8), compute_uv=False)
    assert ((values > 0.6) & (values < 1.3)).all()


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_pull_is_torchs_gradient_of_the_l2_sp_penalty(name):
    """Eq. 3 of Li et al.: alpha / 2 |w - w0|² on top of the loss."""
    alpha, (start, gradients) = 0.3, draw()
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
    ours = Optimizer(name=name, learning_rate=RATE, pull_to_start=alpha)
    expected = {p: param.detach().numpy() for p, param in params.items()}
    same(train(ours.transformation(), start, gradients), expected, rtol=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_an_optimizer_of_ones_own_gets_the_rate(schedule):
    optimizer = {"name": "mine", "make": lambda r: optax.adagrad(r, 0.0, eps=1e-10)}
    mine = phase(
        group("*", **optimizer),
        epochs=STEPS,
        schedule=Schedule(name=schedule, gamma=0.9),
    )
    gamma = 1.0 if schedule == "constant" else 0.9
    start, gradients = draw()
    weights = train(mine.transformation(SHAPES), start, gradients)
    for path, expected in start.items():
        total = np.zeros_like(expected)
        for step, gradient in enumerate(gradients):
            total = total + gradient[path] ** 2
            expected = expected - RATE * gamma**step * gradient[path] / np.sqrt(total)
        np.testing.assert_allclose(weights[path], expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "lamb", "muon"])
def test_a_rate_of_zero_moves_nothing(name, schedule):
    still = group("*", name=name, learning_rate=0, weight_decay=0.1, pull_to_start=1)
    transformation = phase(still, schedule=Schedule(name=schedule)).transformation(
        SHAPES, STEPS
    )
    start, gradients = draw()
    weights = train(transformation, start, gradients)
    for path, array in start.items():
        np.testing.assert_array_equal(weights[path], array)


@pytest.mark.parametrize("by", ["step", "epoch"])
@pytest.mark.parametrize("name", ["constant", "cosine", "step", "one_cycle"])
def test_the_rate_a_phase_tells_is_the_one_it_uses(name, by):
    schedule = Schedule(name=name, by=by, warmup_epochs=0 if name == "one_cycle" else 1)
    # Optax's own sgd, which has no momentum that one_cycle could move.
    own = group("*", name="plain", make=optax.sgd)
    told = phase(own, epochs=5, schedule=schedule)
    transformation = told.transformation(["w"], 4)
    params = {"w": jnp.zeros(())}
    state, used = transformation.init(params), []
    for _ in range(20):
        updates, state = transformation.update({"w": jnp.ones(())}, state, params)
        used.append(-updates["w"])
    expected = [told.rate(own, step, 4) for step in range(20)]
    np.testing.assert_allclose(used, expected, rtol=1e-6)
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamm"}, "Unknown optimizer 'adamm'. Did you mean 'adam'"),
        ({"learning_rate": "fast"}, "learning_rate must be at least 0, got 'fast'"),
        ({"pull_to_start": -1}, "pull_to_start must be at least 0, got -1"),
        ({"name": "sgd", "momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        ({"name": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
        ({"momentum": 0.9}, "momentum is a setting of sgd, not of adam"),
    ],
)
def test_a_wrong_optimizer_is_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Optimizer(**({"learning_rate": 1} | options))
