"""Unpaired differences between estimates on independent sets of images."""

from collections.abc import Mapping
from typing import Any

from jaxmed.evaluation.intervals.estimate import Estimate

# Of counts there is no difference: they grow with the number of images.
COUNTS = ("tp", "fp", "fn", "tn")


def unpaired_difference(a: Estimate, b: Estimate) -> Estimate:
    """Compute a - b of two estimates from independent images, with a 95 % interval.

    The distances of each value to the ends of its own interval are added as standard
    errors are (Zou and Donner, "Construction of confidence limits about effect
    measures: a general approach", Statistics in Medicine 2008, eq. 5). Of two
    proportions with Wilson's intervals it is Newcombe's method 10 (Statistics in
    Medicine 1998). Nothing but the intervals is needed, and where these cover, this
    one does.

    Args:
        a, b: {"value", "ci_low", "ci_high"}.

    Returns:
        The same of the difference, with "method"; None and a "reason" for what there
        is not.

    Examples:
        >>> external = {"value": 0.8, "ci_low": 0.74, "ci_high": 0.85}
        >>> internal = {"value": 0.9, "ci_low": 0.86, "ci_high": 0.93}
        >>> difference = unpaired_difference(external, internal)
        >>> [round(difference[part], 3) for part in ("value", "ci_low", "ci_high")]
        [-0.1, -0.167, -0.036]
    """
    if a["value"] is None or b["value"] is None:
        missing = a if a["value"] is None else b
        none = {"value": None, "ci_low": None, "ci_high": None}
        return none | {"reason": missing.get("reason", "undefined")}
    value = a["value"] - b["value"]
    ends = [side.get(end) for side in (a, b) for end in ("ci_low", "ci_high")]
    if None in ends:
        lacking = a if None in ends[:2] else b
        none = {"value": value, "ci_low": None, "ci_high": None}
        return none | {"reason": lacking.get("reason", "no interval")}
    a_low, a_high, b_low, b_high = ends
    below = ((a["value"] - a_low) ** 2 + (b_high - b["value"]) ** 2) ** 0.5
    above = ((a_high - a["value"]) ** 2 + (b["value"] - b_low) ** 2) ** 0.5
    return {
        "value": value,
        "ci_low": value - below,
        "ci_high": value + above,
        "method": "mover",
    }


def unpaired_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the differences of all estimates that two trees of them share.

    Args:
        a, b: parts of metrics.json, such as its "test_at_threshold".

    Returns:
        By the names that both have, `unpaired_difference`; counts are left out.
    """
    differences: dict[str, Any] = {}
    for name, ours in a.items():
        theirs = b.get(name)
        if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
            continue
        if "value" in ours and "value" in theirs:
            if name not in COUNTS:
                differences[name] = unpaired_difference(dict(ours), dict(theirs))
        elif inner := unpaired_differences(ours, theirs):
            differences[name] = inner
    return differences
