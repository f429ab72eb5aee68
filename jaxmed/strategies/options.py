"""The options of a strategy: which there are, and of which types."""

import inspect
from collections.abc import Callable
from typing import Any, Unpack, get_args, get_origin, get_type_hints, is_typeddict

from jaxmed.strategies.presets.settings import Settings


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
        annotation = _evaluate(parameter.annotation, names)
        table = get_args(annotation)[0] if get_origin(annotation) is Unpack else None
        if is_typeddict(table):
            taken = {option.name for option in read}
            read += [
                inspect.Parameter(
                    key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=inner
                )
                for key, inner in get_type_hints(table).items()
                if key not in taken
            ]
        else:
            read.append(parameter.replace(annotation=annotation))
    return inspect.Signature(read)


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except (NameError, AttributeError, SyntaxError, TypeError):
        return Any
