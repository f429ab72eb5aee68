"""Strategies by name.

A strategy is a function of the model and of options with defaults that returns a
`Strategy`; or a class whose options are its constructor's and whose instances are
called with the model. It is named by one of `PRESETS`, by an entry point of the group
"jaxmed.strategies" that an installed package has, or as "package.module:function".
"""

import importlib
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from jaxmed.errors import InputError, unknown
from jaxmed.models.classifier import Classifier
from jaxmed.strategies.presets import (
    backbone_and_head,
    frozen,
    full,
    l2_sp,
    linear_probe_then_finetune,
    two_phase,
)
from jaxmed.strategies.selective import bias_only, norm_only
from jaxmed.strategies.settings import Settings
from jaxmed.strategies.staged import (
    discriminative,
    gradual_unfreezing,
    layerwise_decay,
    partial,
)
from jaxmed.strategies.strategy import Strategy

ENTRY_POINTS = "jaxmed.strategies"


def sequence(model: Classifier, *, phases: Sequence[Mapping[str, Any]]) -> Strategy:
    """Carries out strategies one after the other, each with options of its own.

    Args:
        model: what is trained.
        phases: a table for each: "strategy", its name, and its options.

    Raises:
        InputError: there is none, or one of them is not right.
    """
    if not phases:
        raise InputError("A sequence needs at least one strategy in `phases`.")
    parts = []
    for number, table in enumerate(phases, start=1):
        if not isinstance(table, Mapping) or "strategy" not in table:
            raise InputError(f"Part {number} of the sequence names no strategy.")
        options = dict(table)
        parts.append(create_strategy(options.pop("strategy"), model, **options).phases)
    joined = [phase for part in parts for phase in part]
    names = [phase.name for phase in joined]
    taken = set(names)
    for at, name in enumerate(names):
        if names.count(name) > 1:
            numbered = (f"{name} {number}" for number in itertools.count(1))
            free = next(name for name in numbered if name not in taken)
            taken.add(free)
            joined[at] = replace(joined[at], name=free)
    return Strategy(name="sequence", phases=tuple(joined))


PRESETS: dict[str, Callable[..., Strategy]] = {
    preset.__name__: preset
    for preset in (
        frozen,
        full,
        two_phase,
        linear_probe_then_finetune,
        partial,
        backbone_and_head,
        discriminative,
        layerwise_decay,
        gradual_unfreezing,
        norm_only,
        bias_only,
        l2_sp,
        sequence,
    )
}


def find_strategy(name: str) -> Callable[..., Any]:
    """Returns the function or class behind a strategy's name.

    Raises:
        InputError: there is no such preset, entry point, module or function.
    """
    if name in PRESETS:
        return PRESETS[name]
    if ":" in name:
        return _load(name, metadata.EntryPoint(name, name, ENTRY_POINTS))
    installed = metadata.entry_points(group=ENTRY_POINTS)
    if name not in installed.names:
        raise unknown("strategy", name, [*PRESETS, *sorted(installed.names)])
    return _load(name, installed[name])


def options_of(name: str) -> inspect.Signature:
    """Returns the options of a strategy: its signature without the model.

    Where it takes `**settings: Unpack[Settings]`, every setting is one, with None as
    its default.

    Raises:
        InputError: there is no such strategy.
    """
    function = find_strategy(name)
    parameters = list(inspect.signature(function).parameters.values())
    if not inspect.isclass(function):
        parameters = parameters[1:]
    if parameters and _are_settings(parameters[-1]):
        known = {parameter.name for parameter in parameters[:-1]}
        parameters[-1:] = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
            )
            for key, kind in get_type_hints(Settings).items()
            if key not in known
        ]
    return inspect.Signature(parameters)


def create_strategy(name: str, model: Classifier, /, **options: Any) -> Strategy:
    """Builds a strategy by name.

    Args:
        name: a preset, an entry point, or "package.module:function" of your own.
        model: what is to be trained.
        **options: the strategy's own; see `options_of`.

    Raises:
        InputError: an unknown name or option, an option's value out of range, groups
            that do not fit the model, or something else than a strategy came of it.
    """
    known = options_of(name).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    for option in options:
        if option not in known and not free:
            raise unknown(f"option of strategy {name!r}", option, known)
    function = find_strategy(name)
    if inspect.isclass(function):
        made: Any = function(**options)
        strategy = made(model)
    else:
        strategy = function(model, **options)
    if not isinstance(strategy, Strategy):
        raise InputError(
            f"Strategy {name!r} returned a {type(strategy).__name__}; it must return "
            "a jaxmed.strategies.Strategy."
        )
    strategy.summary(model)
    return strategy


def _load(name: str, point: metadata.EntryPoint) -> Callable[..., Any]:
    try:
        module = importlib.import_module(point.module)
    except ModuleNotFoundError as error:
        raise InputError(f"Strategy {name!r}: {error}.") from error
    function = getattr(module, point.attr, None)
    if not callable(function):
        raise InputError(
            f"Strategy {name!r}: {point.module} has no function {point.attr!r}."
        )
    return function


def _are_settings(parameter: inspect.Parameter) -> bool:
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
        return False
    said = parameter.annotation
    if isinstance(said, str):
        return said == "Unpack[Settings]"
    return get_origin(said) is Unpack and get_args(said) == (Settings,)
