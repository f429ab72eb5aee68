"""The experiment in one sentence, computed from its numbers."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from jaxmed.report.comparison import Comparison
from jaxmed.report.records import Arm
from jaxmed.report.style import spell
from jaxmed.report.tables import SCALINGS, metric_title


class Verdict(NamedTuple):
    """The sentence, what has to be known to read it, and the arm it is about."""

    text: str
    footnote: str
    best: Arm


def verdict(comparison: Comparison) -> Verdict:
    """Says how good the best arm is, and how far above the first arm.

    The best arm is the one with the best validation score, since the test split must
    decide nothing, not even what the headline says.
    """
    arms = comparison.arms
    metric = "auroc" if _val_score(arms[0], "auroc") is not None else "accuracy"
    scored = [arm for arm in arms if _val_score(arm, metric) is not None]
    ranked = sorted(scored, key=lambda arm: -(_val_score(arm, metric) or 0.0))
    if not ranked:
        text = "No arm has an AUROC or an accuracy; the tables say why."
        return Verdict(text, choices(arms), arms[0])
    best, name = ranked[0], metric_title(metric)
    score = _with_interval(comparison.estimate(best, "test", metric))
    text = f"{best.name} reaches a test {name} of {score}"
    if len(ranked) > 1:
        other = arms[0] if best is not arms[0] else ranked[1]
        text += ", " + _gap(comparison, best, other, metric)
    if metric == "auroc":
        accuracy = _with_interval(comparison.estimate(best, "test", "accuracy"))
        text += f"{',' if len(ranked) > 1 else ''} and an accuracy of {accuracy}"
    text += "."
    footnote = choices(arms)
    if len(arms) > 1:
        footnote = f"{best.name} has the best validation {name}. {footnote}"
    return Verdict(text, footnote, best)


def choices(arms: Sequence[Arm]) -> str:
    """Says what was chosen, and on which split."""
    run = arms[0].first
    threshold, scaling = run.metrics["threshold"], run.metrics["calibration"]
    chosen: dict[str, list[str]] = {}
    best = str((run.environment.get("best") or {}).get("metric", ""))
    split, _, score = best.partition("_")
    if score:
        chosen[split] = [f"checkpoint ({metric_title(score)})"]
    rule = str(threshold.get("method", "?")).replace("youden", "Youden's J")
    chosen.setdefault(threshold.get("chosen_on", "?"), []).append(f"threshold ({rule})")
    scaled = SCALINGS.get(scaling.get("method", ""), "temperature")
    chosen.setdefault(scaling.get("chosen_on", "?"), []).append(scaled)
    method = run.metrics.get("intervals", {}).get("method", "method not recorded")
    parts = [f"Intervals are 95 % ({method})."]
    parts += [f"Chosen on {on}: {', '.join(what)}." for on, what in chosen.items()]
    if "test" not in chosen and "?" not in chosen:
        parts.append("The test split decided nothing.")
    return " ".join(parts)


def _val_score(arm: Arm, metric: str) -> float | None:
    values = [r.metrics["val"].get(metric, {}).get("value") for r in arm.runs]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _with_interval(found: Mapping[str, Any]) -> str:
    value, low, high = (spell(found.get(k)) for k in ("value", "ci_low", "ci_high"))
    return value if found.get("ci_low") is None else f"{value} [{low}, {high}]"


def _gap(comparison: Comparison, best: Arm, other: Arm, metric: str) -> str:
    found = comparison.difference(best, other, metric)
    value, low, high = (found.get(k) for k in ("value", "ci_low", "ci_high"))
    if value is None:
        return f"which cannot be compared with {other.name}"
    side = "above"
    if value < 0:
        # "0.01 [0.00, 0.02] below" reads better than two minus signs above.
        side, value = "below", -value
        if low is not None and high is not None:
            low, high = -high, -low
    size = _with_interval({"value": value, "ci_low": low, "ci_high": high})
    gap = f"{size} {side} {other.name}"
    if low is not None and low <= 0:
        gap += " (an interval with zero in it: no clear difference)"
    return gap
