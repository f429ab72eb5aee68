"""Registry of strategies by name.

A strategy is a function of the model and of options with defaults that returns a
`Strategy`; or a class whose options are its constructor's and whose instances are
called with the model. It is named by one of `BUILT_IN`, by an entry point of the group
"jaxmed.strategies" that an installed package has, or as "package.module:function".

What is wrong with a name or an option is an `InputError`, a sentence. An error in the
code behind a name is its author's to find, so it comes out as it is, with its
traceback: one raised by the function, or while its module is imported, a module that
it wants and that is not there included.
"""

import importlib
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from jaxmed.errors import InputError, unknown
from jaxmed.models.classifier import Classifier
from jaxmed.runtime.annotations import expect
from jaxmed.strategies.options import read_options
from jaxmed.strategies.presets import BUILT_IN
from jaxmed.strategies.strategy import Strategy

ENTRY_POINTS = "jaxmed.strategies"


def sequence(model: Classifier, *, phases: Sequence[Mapping[str, Any]]) -> Strategy:
    """Carry out strategies one after the other, each with options of its own.

    Args:
        model: what is trained.
        phases: a table for each: "strategy", its name, and its options.

    Raises:
        InputError: there is none, or one of them is not right; the sentence begins
            with its number.
    """
    if not phases:
        raise InputError("A sequence needs at least one strategy in `phases`.")
    parts, adapters = [], []
    for number, table in enumerate(phases, start=1):
        options = dict(table) if isinstance(table, Mapping) else {}
        name = options.pop("strategy", None)
        if not isinstance(name, str):
            raise InputError(f"Part {number} of the sequence names no strategy.")
        try:
            strategy = create_strategy(name, model, **options)
            parts.append(strategy.phases)
        except InputError as error:
            raise InputError(f"Part {number} of the sequence: {error}") from error
        if not parts[-1]:
            raise InputError(
                f"Part {number} of the sequence is {name}, which trains no network."
            )
        if strategy.adapter not in (None, *adapters):
            adapters.append(strategy.adapter)
    if len(adapters) > 1:
        raise InputError(
            "The strategies of a sequence add different parameters. Give all of them "
            "that add some the same options of what they add."
        )
    joined = [phase for part in parts for phase in part]
    names = [phase.name for phase in joined]
    taken = set(names)
    for at, name in enumerate(names):
        if names.count(name) > 1:
            numbered = (f"{name} {number}" for number in itertools.count(1))
            free = next(name for name in numbered if name not in taken)
            taken.add(free)
            joined[at] = replace(joined[at], name=free)
    return Strategy(
        name="sequence",
        phases=tuple(joined),
        adapter=adapters[0] if adapters else None,
    )


def find_strategy(name: str) -> Callable[..., Any]:
    """Return the function or class behind a strategy's name.

    A preset goes before an entry point of the same name.

    Raises:
        InputError: there is no such preset, entry point, module or function.
    """
    if name in BUILT_IN:
        module = importlib.import_module(f"jaxmed.strategies.{BUILT_IN[name]}")
        return getattr(module, name)
    if ":" in name:
        return _load(name, name)
    installed = installed_strategies()
    if name in installed:
        return _load(name, installed[name].value)
    if "." in name:
        raise InputError(
            f"Unknown strategy {name!r}. A strategy of your own is named "
            "package.module:function, with a colon."
        )
    raise unknown("strategy", name, [*BUILT_IN, *installed])


def installed_strategies() -> dict[str, metadata.EntryPoint]:
    """Return the entry points that installed packages have, by name, sorted."""
    points = metadata.entry_points(group=ENTRY_POINTS)
    return {name: points[name] for name in sorted(points.names)}


def list_strategies() -> list[str]:
    """List the names of the built-in strategies and of those that packages add.

    Examples:
        >>> list_strategies()[:2]
        ['frozen', 'full']
    """
    return [*BUILT_IN, *installed_strategies()]


def options_of(name: str) -> inspect.Signature:
    """Return the options of a strategy: its signature without the model.

    Where it takes `**settings: Unpack[Settings]`, every setting is one, with None as
    its default, which stands for not given.

    Raises:
        InputError: there is no such strategy.
    """
    return read_options(find_strategy(name))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check what can be checked of options without a model.

    Raises:
        InputError: there is no such strategy, an option is unknown, missing or of
            another type than annotated.
    """
    known = options_of(name).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in known.values())
    named = {
        key: parameter
        for key, parameter in known.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    for option, value in options.items():
        if option not in named:
            if free:
                continue
            if not named:
                raise InputError(f"Strategy {name!r} has no options, got {option!r}.")
            raise unknown(f"option of strategy {name!r}", option, named)
        annotation = named[option].annotation
        expect(annotation, value, f"Option {option!r} of strategy {name!r}")
    for option, parameter in named.items():
        if parameter.default is parameter.empty and option not in options:
            raise InputError(f"Strategy {name!r} needs the option {option!r}.")


def create_strategy(name: str, model: Classifier, /, **options: Any) -> Strategy:
    """Build a strategy by name.

    Args:
        name: a preset, an entry point, or "package.module:function" of your own.
        model: what is to be trained.
        **options: the strategy's own; see `options_of`.

    Raises:
        InputError: an unknown name or option, an option's value of another type or
            out of range, groups that do not fit the model, or something else than a
            strategy came of it.

    Examples:
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> strategy = create_strategy("two_phase", model, head_epochs=2, epochs=4)
        >>> [(phase.name, phase.epochs) for phase in strategy.phases]
        [('head', 2), ('all', 4)]
    """
    check_options(name, options)
    factory: Any = find_strategy(name)
    if inspect.isclass(factory):
        factory = factory(**options)
        if not callable(factory):
            raise InputError(
                f"Strategy {name!r} is a class whose instances cannot be called; give "
                "it a method __call__(self, model)."
            )
        strategy = factory(model)
    else:
        strategy = factory(model, **options)
    if not isinstance(strategy, Strategy):
        raise InputError(
            f"Strategy {name!r} returned a {type(strategy).__name__}; it must return "
            "a jaxmed.strategies.Strategy."
        )
    strategy.summary(model)
    return strategy


def _load(name: str, target: str) -> Callable[..., Any]:
    """Import the `target`, "package.module:function"."""
    home, _, attribute = target.partition(":")
    words = attribute.split(".")
    if not all(word.isidentifier() for word in (*home.split("."), *words)):
        raise InputError(
            f"Strategy {name!r}: {target!r} is not of the form package.module:function."
        )
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        # Another module, that this one imports, is its author's to find.
        if not f"{home}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"Strategy {name!r}: {error}. Install its package, run the command in the "
            "folder it is in, or put that folder into PYTHONPATH."
        ) from error
    function: Any = module
    for word in words:
        function = getattr(function, word, None)
    if not callable(function):
        defined = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == home
        ]
        raise InputError(
            f"Strategy {name!r}: module {home} has no function {attribute!r}"
            f"{', but ' + ', '.join(defined) if defined else ''}."
        )
    return function
