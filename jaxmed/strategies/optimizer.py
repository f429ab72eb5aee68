"""Optimisers with PyTorch's meaning, as plain values."""

from collections.abc import Callable
from dataclasses import dataclass

import optax

from jaxmed.errors import InputError, unknown


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimiser and its settings.

    Attributes:
        name: "sgd", "adam" or "adamw".
        learning_rate: at least 0.
        weight_decay: at least 0. As in torch, "sgd" and "adam" add it times the
            weights to the gradient, and "adamw" shrinks the weights by it times the
            learning rate (Loshchilov and Hutter, ICLR 2019).
        momentum: of "sgd", in [0, 1); torch's form, without dampening.

    Raises:
        InputError: an unknown name or a number out of its range.
    """

    name: str = "adam"
    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in _TRANSFORMATIONS:
            raise unknown("optimizer", self.name, _TRANSFORMATIONS)
        for field in ("learning_rate", "weight_decay"):
            value = getattr(self, field)
            if not isinstance(value, (int, float)) or not value >= 0:
                raise InputError(f"{field} must be at least 0, got {value!r}.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {self.momentum}.")

    def transformation(self) -> optax.GradientTransformation:
        """Builds the optax transformation."""
        return _TRANSFORMATIONS[self.name](self)


def _sgd(settings: Optimizer) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(settings.learning_rate, momentum=settings.momentum or None),
    )


def _adam(settings: Optimizer) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.adam(settings.learning_rate),
    )


def _adamw(settings: Optimizer) -> optax.GradientTransformation:
    return optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)


_TRANSFORMATIONS: dict[str, Callable[[Optimizer], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}
