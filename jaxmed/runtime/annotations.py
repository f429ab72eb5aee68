"""Types of values: whether a value fits an annotation, and sentences where not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from jaxmed.errors import InputError

# Of whole numbers, which become 32 bits wide on a device.
LARGEST = 2**31 - 1
# Of a value in a sentence, in characters.
LONG = 80

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "none",
}


def fits(annotation: Any, value: Any) -> bool:
    """Tells whether a value is of an annotated type.

    A list will do for a tuple, and a whole number for a float, as TOML has them.
    Numbers are finite, and whole ones at most `LARGEST`.
    Annotations other than those below, classes among them, take everything.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(fits(option, value) for option in inner)
    if origin is Literal:
        return value in inner
    if annotation in (int, float):
        # True is an int to Python, but not to anyone who writes a recipe.
        number: type = Integral if annotation is int else Real
        if not isinstance(value, number) or isinstance(value, bool):
            return False
        return abs(int(value)) <= LARGEST if annotation is int else _is_finite(value)
    if annotation in _WORDS:
        return isinstance(value, annotation)
    if _is_subtype(annotation, Mapping):
        return isinstance(value, Mapping)
    if _is_subtype(annotation, Sequence):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner[-1:] != (...,):
            return len(value) == len(inner) and all(map(fits, inner, value))
        return not inner or all(fits(inner[0], item) for item in value)
    return True


def describe_annotation(annotation: Any) -> str:
    """Says in words what `fits` an annotation; nothing where everything does."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(filter(None, map(describe_annotation, inner)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if annotation in _WORDS:
        return _WORDS[annotation]
    if _is_subtype(annotation, Mapping):
        return "a table"
    if not _is_subtype(annotation, Sequence):
        return ""
    if origin is tuple and inner[-1:] != (...,):
        return f"a list of {len(inner)}: {', '.join(map(describe_annotation, inner))}"
    element = describe_annotation(inner[0]) if inner else ""
    return f"a list, each {element}" if element else "a list"


def _is_subtype(annotation: Any, shape: type) -> bool:
    plain = get_origin(annotation) or annotation
    return isinstance(plain, type) and issubclass(plain, shape) and plain is not str


def expect(annotation: Any, value: Any, subject: str) -> None:
    """Checks that a value fits an annotation.

    Args:
        annotation: the annotation; see `fits`.
        value: what was given.
        subject: the start of the sentence, such as "Option 'epochs'".

    Raises:
        InputError: it does not fit.
    """
    if fits(annotation, value):
        return
    words = describe_annotation(annotation)
    if isinstance(value, float) and not math.isfinite(value):
        words = words.replace("a number", "a finite number")
    elif isinstance(value, int) and not isinstance(value, bool):
        words = words.replace("whole number", f"whole number of at most {LARGEST:,}")
    text = repr(value)
    text = text if len(text) <= LONG else f"{text[:LONG]}…"
    raise InputError(f"{subject} must be {words}, got {text}.")


def check_fields(instance: Any, subject: str) -> None:
    """Checks the types of a frozen dataclass's fields, and makes them plain.

    Lists become tuples, and NumPy's numbers Python's.

    Args:
        instance: changed in place.
        subject: the start of the sentence, such as "Phase 'head'".

    Raises:
        InputError: a field is of another type than annotated.
    """
    annotations = _annotations_of(type(instance))
    for field in fields(instance):
        value, annotation = getattr(instance, field.name), annotations[field.name]
        if isinstance(value, np.generic):
            value = value.item()
        expect(annotation, value, f"{subject}: {field.name}")
        if isinstance(value, list):
            value = tuple(value)
        object.__setattr__(instance, field.name, value)


@cache
def _annotations_of(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # A whole number of more than 308 digits.
        return False
