"""Non-inferiority and equivalence of two arms within a margin given before."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.estimate import LEVEL
from jaxmed.evaluation.intervals.significance import holm
from jaxmed.evaluation.metrics.registry import METRICS, limits_of

# Of each one-sided test: its conclusion is then that of the 95 % interval.
ALPHA = (1 - LEVEL) / 2
TESTS = ("noninferior", "equivalent")
NO_ERROR = "no variance to test with"


def check_margin(margin: float, metric: str, known: Sequence[str]) -> None:
    """Check a margin and its metric.

    Raises:
        InputError: the metric is none of those known, or the margin is not positive, or
            as large as the metric's whole range.
    """
    if metric not in known:
        raise unknown("metric of a margin", metric, known)
    low, high = limits_of(metric)
    if not 0 < margin < high - low:
        raise InputError(
            f"The margin of {metric} must be above 0 and below {high - low:g}, got "
            f"{margin:g}. It is the largest loss that would still be acceptable, as "
            "the protocol fixed it before the results were seen."
        )


def margin_tests(
    comparisons: Sequence[Mapping[str, Any]], metric: str, margin: float
) -> dict[str, Any]:
    """Test whether `a` is not worse than `b`, and whether both are alike.

    With d, by how much `a` is better, and its standard error: `a` is non-inferior if
    d > -margin, and equivalent if -margin < d < margin, which is tested by two
    one-sided tests (Schuirmann, "A comparison of the two one-sided tests procedure and
    the power approach", Journal of Pharmacokinetics and Biopharmaceutics 1987). Each is
    at a level of 2.5 %, so that the conclusion can be read off the 95 % interval (ICH
    E9, section 3.3.2). The error is that of DeLong, or of the bootstrap.

    Args:
        comparisons: of `compare_arms`.
        metric: one of a comparison's "metrics".
        margin: above 0, in the metric's own unit, whichever way it is better.

    Returns:
        {"metric", "margin", "alpha", "comparisons"}: of each comparison {"a", "b",
        "value", "ci_low", "ci_high"} of d, "p_noninferior" and "p_equivalent", both
        also adjusted by Holm for the number of comparisons ("..._holm"), and
        "noninferior" and "equivalent", whether the adjusted p is at most alpha. All
        again under "another_training". None and a "reason" where undefined.

    Examples:
        >>> difference = {"value": 0.01, "se": 0.01, "another_training": {"se": None}}
        >>> pair = {"a": "new", "b": "old", "metrics": {"auroc": difference}}
        >>> (tested,) = margin_tests([pair], "auroc", 0.02)["comparisons"]
        >>> tested["noninferior"], tested["equivalent"]
        (True, False)
        >>> round(tested["p_noninferior"], 4)  # 3 standard errors above -0.02
        0.0013
    """
    sign = -1.0 if metric in METRICS and METRICS[metric].lower_is_better else 1.0
    tested, again = [], []
    for pair in comparisons:
        difference = pair["metrics"][metric]
        retrained = difference["another_training"]
        names = {"a": pair["a"], "b": pair["b"]}
        tested.append(names | _tested(difference, difference, sign, margin))
        again.append(_tested(difference, retrained, sign, margin))
    for family in (tested, again):
        for name in TESTS:
            adjusted = holm([pair[f"p_{name}"] for pair in family])
            for pair, p in zip(family, adjusted, strict=True):
                pair[f"p_{name}_holm"] = p
                pair[name] = None if p is None else bool(p <= ALPHA)
    pairs = zip(tested, again, strict=True)
    return {
        "metric": metric,
        "margin": margin,
        "alpha": ALPHA,
        "comparisons": [pair | {"another_training": more} for pair, more in pairs],
    }


def _tested(
    difference: Mapping[str, Any], of: Mapping[str, Any], sign: float, margin: float
) -> dict[str, Any]:
    """Test one difference with the standard error and degrees of freedom of `of`."""
    error, value = of.get("se"), difference["value"]
    if value is None or not error:
        reason = of.get("reason") or difference.get("reason") or NO_ERROR
        none = dict.fromkeys(("value", "ci_low", "ci_high"))
        return none | {f"p_{name}": None for name in TESTS} | {"reason": reason}
    better, df = sign * value, of.get("df", math.inf)
    half = float(student.ppf(1 - ALPHA, df)) * error
    not_worse = float(student.sf((better + margin) / error, df))
    not_better = float(student.sf((margin - better) / error, df))
    return {
        "value": better,
        "ci_low": better - half,
        "ci_high": better + half,
        "p_noninferior": not_worse,
        "p_equivalent": max(not_worse, not_better),
    }
