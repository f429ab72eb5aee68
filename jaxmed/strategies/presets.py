"""Strategies by name.

A preset is a function of the model and of options with defaults that returns a
`Strategy`. A function of your own is named "package.module:function".
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, cast

from jaxmed.errors import InputError, unknown
from jaxmed.models.classifier import Classifier
from jaxmed.strategies.optimizer import Optimizer
from jaxmed.strategies.staged import (
    backbone_and_head,
    discriminative,
    gradual_unfreezing,
    layerwise_decay,
    norm_only,
    partial,
)
from jaxmed.strategies.strategy import Group, Phase, Strategy


def frozen(
    model: Classifier,
    *,
    epochs: int = 5,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    drifting_norms: bool = False,
) -> Strategy:
    """Trains the head on the features of a frozen backbone (feature extraction).

    The backbone computes in eval mode, its BatchNorm statistics included, so the
    head is a classifier on fixed features, as in Donahue et al., "DeCAF", ICML 2014.

    Args:
        model: decides nothing here; every preset takes it.
        epochs: passes over the training images.
        optimizer, learning_rate, weight_decay: see `Optimizer`.
        drifting_norms: lets the backbone's BatchNorm statistics drift, as tutorials
            do that call `model.train()`; see `Phase.drifting`.
    """
    del model
    head = Group(
        name="head",
        patterns=("head",),
        optimizer=Optimizer(
            name=optimizer, learning_rate=learning_rate, weight_decay=weight_decay
        ),
    )
    drifting = ("backbone",) if drifting_norms else ()
    phase = Phase(name="head", epochs=epochs, groups=(head,), drifting=drifting)
    return Strategy(name="frozen", phases=(phase,))


def full(
    model: Classifier,
    *,
    epochs: int = 5,
    optimizer: str = "adam",
    learning_rate: float = 1e-4,
    weight_decay: float = 0.0,
) -> Strategy:
    """Trains everything at one rate; from scratch, if the weights are random.

    As in Girshick et al., "Rich Feature Hierarchies", CVPR 2014, section 2.3, but
    with one rate for the head and the rest.

    Args:
        model: decides nothing here; every preset takes it.
        epochs: passes over the training images.
        optimizer, learning_rate, weight_decay: see `Optimizer`.
    """
    del model
    everything = Group(
        name="all",
        patterns=("backbone", "head"),
        optimizer=Optimizer(
            name=optimizer, learning_rate=learning_rate, weight_decay=weight_decay
        ),
    )
    phase = Phase(name="all", epochs=epochs, groups=(everything,))
    return Strategy(name="full", phases=(phase,))


def two_phase(
    model: Classifier,
    *,
    head_epochs: int = 3,
    head_learning_rate: float = 1e-3,
    epochs: int = 5,
    learning_rate: float = 1e-5,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    drifting_norms: bool = False,
) -> Strategy:
    """Trains the head first, then everything at a small rate.

    A fresh head sends large gradients into pretrained layers; training it alone
    first spares them (Kumar et al., "Fine-Tuning can Distort Pretrained Features and
    Underperform Out-of-Distribution", ICLR 2022). The defaults are the PneumoniaMNIST
    tutorial's.

    Args:
        model: decides nothing here; every preset takes it.
        head_epochs, head_learning_rate: of the first phase.
        epochs, learning_rate: of the second phase.
        optimizer, weight_decay: of both; see `Optimizer`. The second phase starts
            with a fresh optimiser state.
        drifting_norms: of the first phase; see `frozen`.
    """
    head = frozen(
        model,
        epochs=head_epochs,
        optimizer=optimizer,
        learning_rate=head_learning_rate,
        weight_decay=weight_decay,
        drifting_norms=drifting_norms,
    )
    everything = full(
        model,
        epochs=epochs,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    return Strategy(name="two_phase", phases=head.phases + everything.phases)


PRESETS: dict[str, Callable[..., Strategy]] = {
    preset.__name__: preset
    for preset in (
        frozen,
        full,
        two_phase,
        partial,
        backbone_and_head,
        discriminative,
        layerwise_decay,
        gradual_unfreezing,
        norm_only,
    )
}


def find_strategy(name: str) -> Callable[..., Strategy]:
    """Returns the function behind a strategy's name.

    Args:
        name: a preset, or "package.module:function" of your own.

    Raises:
        InputError: there is no such preset, module or function.
    """
    if ":" not in name:
        if name not in PRESETS:
            raise unknown("strategy", name, PRESETS)
        return PRESETS[name]
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(f"Strategy {name!r}: {error}.") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(
            f"Strategy {name!r}: {module_name} has no function {attribute!r}."
        )
    return cast(Callable[..., Strategy], function)


def options_of(name: str) -> inspect.Signature:
    """Returns the options of a strategy: its signature without the model.

    Raises:
        InputError: there is no such strategy.
    """
    signature = inspect.signature(find_strategy(name))
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def create_strategy(name: str, model: Classifier, **options: Any) -> Strategy:
    """Builds a strategy by name.

    Args:
        name: a preset, or "package.module:function" of your own.
        model: what is to be trained.
        **options: the strategy's own; see `options_of`.

    Raises:
        InputError: an unknown name or option, an option's value out of range, or
            groups that do not fit the model.
    """
    known = options_of(name).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    for option in options:
        if option not in known and not free:
            raise unknown(f"option of strategy {name!r}", option, known)
    strategy = find_strategy(name)(model, **options)
    strategy.summary(model)
    return strategy
