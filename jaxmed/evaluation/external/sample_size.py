"""Numbers of images that an interval of a given width needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmed.evaluation.intervals.auc import newcombe
from jaxmed.evaluation.intervals.proportions import wilson

WIDTHS = (0.2, 0.1, 0.05)
# More images than this are no plan.
MOST = 10_000_000


def images_needed(
    metrics: Mapping[str, Any], widths: Sequence[float] = WIDTHS
) -> dict[str, Any]:
    """Compute how many images like these a 95 % interval of a given width needs.

    The values and the shares of the classes are taken as they were found. Proportions
    have Wilson's interval, AUROCs Hanley and McNeil's variance (Newcombe's method 5,
    as `intervals.auc.newcombe`), for independent images; where patients have several
    images, more are needed.

    Args:
        metrics: of `evaluate_test`.
        widths: from one end of the interval to the other.

    Returns:
        {"widths", "metrics"}: by metric its "value", the "share" of the images that it
        is about, and "images" in all, one number per width; None beyond `MOST`.
    """
    needed = {}
    for name, value, share, width_of in _quantities(metrics):
        sizes = [_smallest(width_of, width) for width in widths]
        needed[name] = {"value": value, "share": share, "images": sizes}
    return {"widths": list(widths), "metrics": needed}


# A quantity: its name, value, share of images, and the width of its interval by images.
Quantity = tuple[str, float, float, Callable[[float], float]]


def _quantities(metrics: Mapping[str, Any]) -> Iterator[Quantity]:
    binary = metrics["task"] == "binary"
    test, at = metrics["test"], metrics["test_at_threshold"]
    if metrics["task"] in ("multiclass", "ordinal"):
        yield from _proportion("accuracy", test.get("accuracy"), 1.0)
    for name, of_class in metrics["per_class"]["test"].items():
        if binary and name != metrics["positive_class"]:
            continue
        share = of_class["support"] / of_class.get("n", test["n"])
        suffix = "" if binary else f" of {name}"
        yield from _area(f"auroc{suffix}", of_class.get("auroc"), share)
        decided = at if binary else at.get(name, {})
        if metrics["task"] in ("multiclass", "ordinal"):
            yield from _proportion(f"recall{suffix}", of_class.get("recall"), share)
            continue
        for metric, part in (("sensitivity", share), ("specificity", 1 - share)):
            yield from _proportion(f"{metric}{suffix}", decided.get(metric), part)


def _proportion(name: str, entry: Any, share: float) -> Iterator[Quantity]:
    value = (entry or {}).get("value")
    if value is None or share <= 0:
        return

    def width(images: float) -> float:
        trials = np.array([images * share])
        low, high = wilson(value * trials, trials)
        return float(high[0] - low[0])

    yield name, value, share, width


def _area(name: str, entry: Any, share: float) -> Iterator[Quantity]:
    value = (entry or {}).get("value")
    if value is None or not 0 < share < 1:
        return

    def width(images: float) -> float:
        low, high, _ = newcombe(value, images * share, images * (1 - share))
        return high - low

    yield name, value, share, width


def _smallest(width_of: Callable[[float], float], width: float) -> int | None:
    """Find the least number of images whose interval is no wider, by bisection."""
    high = 8
    while width_of(high) > width:
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width_of(middle) <= width else (middle, high)
    return high
