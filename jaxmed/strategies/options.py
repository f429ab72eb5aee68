"""The options of a strategy: which there are, and whether a value fits."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    Union,
    Unpack,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from jaxmed.strategies.settings import Settings

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "none",
}


def read_options(function: Callable[..., Any]) -> inspect.Signature:
    """Reads the options off a function of the model, or off a class's constructor.

    Where it takes `**settings: Unpack[Settings]`, or `Unpack` of another TypedDict,
    every key is an option, with None as its default. Postponed annotations are
    evaluated; one that cannot be (imported for type checkers only) is `Any`.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not inspect.isclass(function):
        parameters = parameters[1:]
    module = inspect.getmodule(function)
    # These two even where they are imported for type checkers only.
    names = {"Settings": Settings, "Unpack": Unpack} | (vars(module) if module else {})
    read = []
    for parameter in parameters:
        kind = _evaluate(parameter.annotation, names)
        table = get_args(kind)[0] if get_origin(kind) is Unpack else None
        if is_typeddict(table):
            taken = {one.name for one in read}
            read += [
                inspect.Parameter(
                    key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=inner
                )
                for key, inner in get_type_hints(table).items()
                if key not in taken
            ]
        else:
            read.append(parameter.replace(annotation=kind))
    return inspect.Signature(read)


def fits(kind: Any, value: Any) -> bool:
    """Tells whether a value is of an annotated type.

    A list will do for a tuple, and a whole number for a float, as TOML has them.
    Annotations other than those below, classes among them, take everything.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(one, value) for one in inner)
    if origin is Literal:
        return value in inner
    if kind in (int, float):
        # True is an int to Python, but not to anyone who writes a recipe.
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if kind in _WORDS:
        return isinstance(value, kind)
    if _is(kind, Mapping):
        return isinstance(value, Mapping)
    if _is(kind, Sequence):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner[-1:] != (...,):
            return len(value) == len(inner) and all(map(fits, inner, value))
        return not inner or all(fits(inner[0], one) for one in value)
    return True


def spell(kind: Any) -> str:
    """Says in words what `fits` an annotation; nothing where everything does."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(filter(None, map(spell, inner)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if kind in _WORDS:
        return _WORDS[kind]
    if _is(kind, Mapping):
        return "a table"
    if not _is(kind, Sequence):
        return ""
    if origin is tuple and inner[-1:] != (...,):
        return f"a list of {len(inner)}: {', '.join(map(spell, inner))}"
    each = spell(inner[0]) if inner else ""
    return f"a list, each {each}" if each else "a list"


def _is(kind: Any, shape: type) -> bool:
    plain = get_origin(kind) or kind
    return isinstance(plain, type) and issubclass(plain, shape) and plain is not str


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except (NameError, AttributeError, SyntaxError, TypeError):
        return Any
