"""Optimizers with PyTorch's meaning, as plain values."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxmed.errors import InputError, unknown
from jaxmed.runtime.annotations import check_fields

# A number, or a function of the steps taken so far.
Value = float | Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer and its settings.

    Attributes:
        name: "sgd", "adam" or "adamw" with torch's meaning and betas (0.9, 0.999);
            "lion" (Chen et al., "Symbolic Discovery of Optimization Algorithms",
            NeurIPS 2023, algorithm 2; betas 0.9, 0.99); "lamb" (You et al., "Large
            Batch Optimization for Deep Learning", ICLR 2020, algorithm 2 with phi the
            identity and epsilon 1e-6; where the weights or the step are all 0, their
            ratio counts as 1); or "muon" (Jordan et al., "Muon", 2024; torch's `Muon`
            in float32: Nesterov momentum 0.95, orthogonalized, for the kernels of
            convolutions and linear layers, as matrices from all axes but the last to
            the last; and adamw for all other parameters).
        learning_rate: at least 0.
        weight_decay: at least 0. As in torch, "sgd" and "adam" add it times the
            weights to the gradient, and the others shrink the weights by it times the
            learning rate (Loshchilov and Hutter, ICLR 2019).
        momentum: of "sgd", in [0, 1); torch's form, without dampening.
        nesterov: of "sgd" with momentum.
        decay_bias_and_norm: False leaves biases, the parameters of normalization, all
            others that are one number a channel (layer scale), and the tokens and
            position embeddings of vision transformers out of the decay.
        l2_sp: at least 0; the alpha of the L2-SP penalty of Li et al., ICML 2018, eq.
            3: alpha / 2 times the squared distance from the weights that the phase
            began with. Like the decay it is no part of a gradient whose norm is
            limited.
        make: an optimizer of your own in place of a named one: a function of the
            learning rate, a number or an optax schedule, that returns an optax
            transformation. `name` is then its label.

    Raises:
        InputError: an unknown name, a value of another type, or a number that is out
            of its range or not finite.

    Examples:
        >>> Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-4).name
        'adamw'
    """

    name: str = "adam"
    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    decay_bias_and_norm: bool = True
    l2_sp: float = 0.0
    make: Callable[[Value], optax.GradientTransformation] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "Optimizer")
        if self.make is not None and not callable(self.make):
            raise InputError(
                "Optimizer: make must be a function of the learning rate, got "
                f"{self.make!r}. A named optimizer is given by its name."
            )
        if self.make is None and self.name not in _TRANSFORMATIONS:
            raise unknown("optimizer", self.name, _TRANSFORMATIONS)
        for field in ("learning_rate", "weight_decay", "l2_sp"):
            value = getattr(self, field)
            if value < 0:
                raise InputError(f"{field} must be at least 0, got {value!r}.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {self.momentum}.")
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs a momentum above 0.")
        if self.momentum and self.make is None and self.name != "sgd":
            raise InputError(f"momentum is a setting of sgd, not of {self.name}.")

    def transformation(
        self, *, rate: Value | None = None, momentum: Value | None = None
    ) -> optax.GradientTransformation:
        """Builds the optax transformation.

        Args:
            rate: in place of `learning_rate`.
            momentum: in place of sgd's momentum, or of the others' first beta.
        """
        rate = self.learning_rate if rate is None else rate
        if self.make:
            inner = self.make(rate)
        elif momentum is None or self.name == "muon":
            inner = _TRANSFORMATIONS[self.name](self, rate, None)
        else:
            inner = optax.inject_hyperparams(
                lambda rate, momentum: _TRANSFORMATIONS[self.name](self, rate, momentum)
            )(rate=rate, momentum=momentum)
        if not self.l2_sp:
            return inner
        return optax.chain(_add_l2_sp(self.l2_sp), inner)

    def mask(self) -> Callable[[Any], Any] | None:
        """Returns what says of every parameter whether it decays; None for all."""
        if self.decay_bias_and_norm:
            return None
        return lambda params: jax.tree.map(_is_kernel, params)


def _is_kernel(array: ArrayLike) -> bool:
    """Whether outputs, on the last axis, have more than one number each.

    Arrays of three axes are no kernels, but tokens, position embeddings, layer scales.
    """
    shape = jnp.shape(array)
    return len(shape) != 3 and math.prod(shape[:-1]) > 1


def _add_l2_sp(strength: float) -> optax.GradientTransformation:
    def init(params):
        # A copy, because a training step gives its parameters' buffers away.
        return jax.tree.map(lambda array: jnp.array(array, copy=True), params)

    def update(updates, state, params=None):
        def pull(gradient, weight, start):
            return gradient + strength * (weight - start)

        return jax.tree.map(pull, updates, params, state), state

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _coupled(settings: Optimizer) -> optax.GradientTransformation:
    return optax.add_decayed_weights(settings.weight_decay, settings.mask())


def _betas(momentum: Value | None) -> dict[str, Any]:
    return {} if momentum is None else {"b1": momentum}


def _sgd(settings, rate, momentum):
    if momentum is None:
        momentum = settings.momentum or None
    sgd = optax.sgd(rate, momentum=momentum, nesterov=settings.nesterov)
    return optax.chain(_coupled(settings), sgd)


def _adam(settings, rate, momentum):
    return optax.chain(_coupled(settings), optax.adam(rate, **_betas(momentum)))


def _adamw(settings, rate, momentum):
    decay, mask = settings.weight_decay, settings.mask()
    return optax.adamw(rate, weight_decay=decay, mask=mask, **_betas(momentum))


def _lion(settings, rate, momentum):
    decay, mask = settings.weight_decay, settings.mask()
    return optax.lion(rate, weight_decay=decay, mask=mask, **_betas(momentum))


def _lamb(settings, rate, momentum):
    decay, mask = settings.weight_decay, settings.mask()
    return optax.lamb(rate, weight_decay=decay, mask=mask, **_betas(momentum))


def _muon(settings, rate, momentum):
    del momentum
    # Not optax's: its momentum is corrected for its start, which turns the first
    # steps, and its adamw for the other parameters has Nesterov momentum.
    muon = optax.chain(
        optax.trace(0.95, nesterov=True),
        optax.stateless(lambda updates, _: jax.tree.map(_orthogonalize, updates)),
        _coupled(settings),
        optax.scale_by_learning_rate(rate),
    )

    def names(params):
        return jax.tree.map(lambda a: "muon" if _is_kernel(a) else "adamw", params)

    transforms: dict[Hashable, optax.GradientTransformation] = {
        "muon": muon,
        "adamw": _adamw(settings, rate, None),
    }
    return optax.multi_transform(transforms, names)


def _orthogonalize(update: jax.Array) -> jax.Array:
    """Brings a matrix's singular values near 1 with five Newton-Schulz steps.

    Jordan et al.'s; the result is scaled by sqrt(max(1, outputs / inputs)).
    """
    matrix = update.reshape(-1, update.shape[-1])
    inputs, outputs = matrix.shape
    x = matrix.T if inputs > outputs else matrix
    x = x / jnp.maximum(jnp.linalg.norm(x), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    x = x.T if inputs > outputs else x
    return math.sqrt(max(1, outputs / inputs)) * x.reshape(update.shape)


_TRANSFORMATIONS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "lion": _lion,
    "lamb": _lamb,
    "muon": _muon,
}
