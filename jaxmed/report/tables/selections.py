"""What was chosen, on which split: the epoch, the threshold, the calibration."""

from collections.abc import Sequence
from dataclasses import replace

from jaxmed.report.figures.style import spell
from jaxmed.report.tables.formatting import (
    SCALINGS,
    Cell,
    Table,
    metric_title,
    number,
    word,
)
from jaxmed.runs.record import Arm, RunRecord

RULES = {
    "youden": "largest Youden's J",
    "sensitivity": "sensitivity of {target}",
    "specificity": "specificity of {target}",
    "cost": "least cost, a miss costing {cost}",
    "f1": "largest F1",
    "0.5": "0.5, not chosen",
}


def chosen_table(arms: Sequence[Arm]) -> Table:
    """A row per choice and arm: what, which value, by which rule, on which split."""
    rows = []
    for arm in arms:
        name, run = word(arm.shown_name), arm.first
        rows.append((name, word("epoch"), *_epoch(run)))
        rows.append((name, word("threshold"), *_threshold(run)))
        rows.append((name, word("calibration"), *_calibration(run)))
    return Table(
        caption="Chosen, and on which split",
        head=("arm", "what", "value", "rule", "split"),
        rows=tuple(rows),
        note="The lowest seed of each arm. Test images chose nothing.",
    )


def _epoch(run: RunRecord) -> tuple[Cell, ...]:
    best = run.environment.get("best") or {}
    if not best:
        return word("–"), word("not recorded"), word("–")
    metric = str(best.get("metric", ""))
    split, _, score = metric.partition("_")
    if not score:
        split, score = "none", metric
    place = f"{best.get('phase')}, epoch {best.get('epoch')}"
    value = best.get("value")
    reached = f" ({spell(value)})" if isinstance(value, float) else ""
    return word(place), word(f"best {metric_title(score)}{reached}"), word(split)


def _threshold(run: RunRecord) -> tuple[Cell, ...]:
    choice = run.metrics["threshold"]
    method, value = str(choice.get("method", "?")), choice.get("value")
    rule = RULES.get(method, method).format(**{"target": "?", "cost": "?"} | choice)
    if isinstance(value, dict):
        cell = word(
            ", ".join(f"{name} {spell(one)}" for name, one in list(value.items())[:12])
            + (", …" if len(value) > 12 else "")
        )
    elif value is None:
        cell = Cell(text="–", note=str(choice.get("reason", "undefined")), words=True)
    else:
        cell = replace(number(value), words=True)
    return cell, word(rule), word(choice.get("chosen_on", "?"))


def _calibration(run: RunRecord) -> tuple[Cell, ...]:
    scaling = run.metrics["calibration"]
    method = str(scaling.get("method", "temperature"))
    name = SCALINGS.get(method, method)
    if "temperature" in scaling:
        value = scaling["temperature"]
        reason = str(scaling.get("reason", ""))
        cell = Cell(text="–", note=reason) if value is None else number(value)
        cell = replace(cell, words=True)
    else:
        cell = word("scale and bias, in metrics.json")
    how = scaling.get("note", "least log loss")
    return cell, word(f"{name}, {how}"), word(scaling.get("chosen_on", "?"))
