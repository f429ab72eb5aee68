"""How one setting is declared: its meaning, default and range, in one place."""

import difflib
from dataclasses import MISSING, Field, field
from typing import Any

from jaxmed.errors import InputError


def setting(
    doc: str,
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str | int, ...] = (),
    neutral: bool = False,
) -> Any:
    """Declare a field with its documentation.

    Args:
        doc: what the setting means, with its unit; `run --help` prints it.
        default: its value where a recipe does not say; without one a recipe must.
        low, high: the smallest and the largest value allowed.
        below: what the value must stay under.
        choices: the values allowed.
        neutral: whether results do not depend on it, so that a resumed run may have
            another value.
    """
    limits = {"low": low, "high": high, "below": below, "choices": choices}
    return field(default=default, metadata={"doc": doc, "neutral": neutral} | limits)


def is_section(type_hint: Any) -> bool:
    """Tell whether a field's type is one of the tables."""
    return hasattr(type_hint, "__dataclass_fields__")


def check_range(declared: Field, value: Any, name: str) -> None:
    """Check a value against the choices and limits of its declaration.

    Args:
        declared: a field made by `setting`.
        value: of the field's type.
        name: the start of the sentence, such as "batch_size".

    Raises:
        InputError: it is none of the choices, or outside the range.
    """
    limits = declared.metadata
    if limits.get("choices") and value not in limits["choices"]:
        choices = list(map(str, limits["choices"]))
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(choices)
        raise InputError(f"{name} must be one of {known}; got {value!r}.{hint}")
    # Written so that NaN, which compares with nothing, is outside every range.
    if limits.get("low") is not None and not value >= limits["low"]:
        raise InputError(f"{name} must be at least {limits['low']}, got {value}.")
    if limits.get("high") is not None and not value <= limits["high"]:
        raise InputError(f"{name} must be at most {limits['high']}, got {value}.")
    if limits.get("below") is not None and not value < limits["below"]:
        raise InputError(f"{name} must be below {limits['below']}, got {value}.")
