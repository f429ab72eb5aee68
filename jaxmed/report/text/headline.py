"""Headline: the result of an experiment in one sentence."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from jaxmed.evaluation.intervals.estimate import LEVEL
from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures.style import format_number
from jaxmed.report.tables.formatting import SCALINGS, interval, metric_title
from jaxmed.runs.record import Arm


class Headline(NamedTuple):
    """The sentence, what has to be known to read it, and the arm it is about."""

    text: str
    footnote: str
    best: Arm


def headline(comparison: Comparison) -> Headline:
    """Write the headline: the best arm's metric, and its difference from the first.

    The best arm is the one with the best validation score, since the test split must
    decide nothing, not even what the headline says. Where arms were trained several
    times, intervals and "significant" are those of retrained models.
    """
    arms = comparison.arms
    metric = "auroc" if _val_score(arms[0], "auroc") is not None else "accuracy"
    scored = [arm for arm in arms if _val_score(arm, metric) is not None]
    ranked = sorted(scored, key=lambda arm: -(_val_score(arm, metric) or 0.0))
    if not ranked:
        text = "No arm has an AUROC or an accuracy; the tables say why."
        return Headline(text, selection_note(arms), arms[0])
    best, name = ranked[0], metric_title(metric)
    score = _with_interval(_main(comparison.estimate(best, "test", metric)))
    text = f"{best.name} reaches a test {name} of {score}"
    if len(ranked) > 1:
        other = arms[0] if best is not arms[0] else ranked[1]
        text += ", " + format_difference(
            comparison.difference(best, other, metric), other.name
        )
    if metric == "auroc":
        accuracy = _main(comparison.estimate(best, "test", "accuracy"))
        text += f"{',' if len(ranked) > 1 else ''} and an accuracy"
        text += f"{accuracy_rule(comparison)} of {_with_interval(accuracy)}"
    text += "."
    footnote = f"{_interval_note(comparison)} {selection_note(arms)}"
    if len(arms) > 1:
        footnote = f"{best.name} has the best validation {name}. {footnote}"
    return Headline(text, footnote, best)


def accuracy_rule(comparison: Comparison) -> str:
    """Return the decision rule of accuracy, where there are two."""
    return " at the threshold chosen on val" if comparison.has_thresholds else ""


def _interval_note(comparison: Comparison) -> str:
    """Explain the headline's intervals."""
    if comparison.several_seeds:
        text = "Brackets are 95 % intervals for retrained models, over test images"
        text += " and seeds"
        if any(len(arm.runs) == 1 for arm in comparison.arms):
            text += "; for arms with one seed, over test images only"
    else:
        text = (
            "Brackets are 95 % intervals over test images, for these trained models: "
            "each arm has one seed, so the variance of retraining is unknown"
        )
    others = len(comparison.arms) - 1
    if others > 1:
        text += f". Significance is adjusted for {others} comparisons"
    return f"{text}."


def selection_note(arms: Sequence[Arm]) -> str:
    """Return sentences on what was selected on which split."""
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
    parts += [
        f"Selected on {on}: {', '.join(choices)}." for on, choices in chosen.items()
    ]
    if "test" not in chosen and "?" not in chosen:
        parts.append("Nothing was selected on the test split.")
    return " ".join(parts)


def _val_score(arm: Arm, metric: str) -> float | None:
    values = [r.metrics["val"].get(metric, {}).get("value") for r in arm.runs]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _with_interval(entry: Mapping[str, Any]) -> str:
    ends = interval(entry)
    return f"{format_number(entry.get('value'))} {ends}".strip()


def with_test_interval(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimate with the interval that matches its test on images."""
    return {**difference, **difference.get("delong", {})}


def _main(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimate with interval and p of retrained models, if it has them."""
    again = difference.get("another_training") or {}
    return {
        **with_test_interval(difference),
        **(again if again.get("ci_low") is not None else {}),
    }


def is_clear(difference: Mapping[str, Any]) -> bool:
    """Return whether a difference is significant, by its widest interval and test.

    With several seeds that is whether training again would give it, else whether these
    models would differ on other images; adjusted, where there are several comparisons.
    """
    main = _main(difference)
    p = main.get("p_holm", main.get("p"))
    inside = main["ci_low"] is None or main["ci_low"] <= 0 <= main["ci_high"]
    return p is not None and p <= 1 - LEVEL and not inside


def format_difference(difference: Mapping[str, Any], other: str) -> str:
    """Format a difference: "0.01 [0.00, 0.02] above scratch", and if it is not clear.

    Args:
        difference: the difference from the other, see `Paired.difference`.
        other: the other's name.
    """
    main = _main(difference)
    value, low, high = (main.get(k) for k in ("value", "ci_low", "ci_high"))
    if value is None:
        return f"which cannot be compared with {other}"
    side = "above"
    if value < 0:
        # "0.01 [0.00, 0.02] below" reads better than two minus signs above.
        side, value = "below", -value
        if low is not None and high is not None:
            low, high = -high, -low
    size = _with_interval({"value": value, "ci_low": low, "ci_high": high})
    text = f"{size} {side} {other}"
    if is_clear(difference):
        return text
    if low is not None and low <= 0:
        return f"{text} (not significant: the interval includes zero)"
    if "p" not in main or main["p"] is None:
        return f"{text} (not tested)"
    p, adjusted = main["p"], main.get("p_holm", main["p"])
    why = f"p = {adjusted:.3f}" + (", adjusted" if adjusted != p else "")
    return f"{text} ({why}: not significant)"
