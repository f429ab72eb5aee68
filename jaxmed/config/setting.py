"""How one setting of a recipe is declared."""

from dataclasses import MISSING, field
from typing import Any


def setting(
    doc: str,
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str | int, ...] = (),
) -> Any:
    """Declare a field with its documentation.

    Args:
        doc: what the setting means, with its unit; `run --help` prints it.
        default: its value where a recipe does not say; without one a recipe must.
        low, high: the smallest and the largest value allowed.
        below: what the value must stay under.
        choices: the values allowed.
    """
    limits = {"low": low, "high": high, "below": below, "choices": choices}
    return field(default=default, metadata={"doc": doc} | limits)


def is_section(kind: Any) -> bool:
    """Tell whether a field's type is one of the tables."""
    return hasattr(kind, "__dataclass_fields__")
