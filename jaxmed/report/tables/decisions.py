"""Tables of thresholds, calibration, classes and choices made on validation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxmed.report.figures.style import format_number
from jaxmed.report.tables.formatting import (
    SCALINGS,
    STABILITY,
    Cell,
    Table,
    annotated,
    count,
    estimate,
    estimate_table,
    metric_title,
    number,
    transpose,
    word,
)
from jaxmed.runs.record import Arm, RunRecord

RULES = {
    "youden": "maximum Youden's J",
    "sensitivity": "sensitivity of {target}",
    "specificity": "specificity of {target}",
    "cost": "minimum cost, a miss costing {cost}",
    "f1": "maximum F1",
    "0.5": "0.5, fixed",
}


def selection_table(arms: Sequence[Arm]) -> Table:
    """Tabulate what was selected: epoch, threshold, calibration, by rule and split."""
    rows = []
    for arm in arms:
        name, run = word(arm.shown_name), arm.first
        rows.append((name, word("epoch"), *_epoch(run)))
        rows.append((name, word("threshold"), *_threshold(run)))
        rows.append((name, word("calibration"), *_calibration(run)))
    return Table(
        caption="Model selection",
        head=("arm", "choice", "value", "rule", "split"),
        rows=tuple(rows),
        note="The lowest seed of each arm. Nothing was selected on the test split.",
    )


def _epoch(run: RunRecord) -> tuple[Cell, ...]:
    best = run.environment.get("best") or {}
    if not best:
        return word("–"), word("not recorded"), word("–")
    metric = str(best.get("metric", ""))
    split, _, score = metric.partition("_")
    if not score:
        split, score = "none", metric
    epoch = f"{best.get('phase')}, epoch {best.get('epoch')}"
    value = best.get("value")
    reached = f" ({format_number(value)})" if isinstance(value, float) else ""
    return word(epoch), word(f"best {metric_title(score)}{reached}"), word(split)


def _threshold(run: RunRecord) -> tuple[Cell, ...]:
    choice = run.metrics["threshold"]
    method, value = str(choice.get("method", "?")), choice.get("value")
    rule = RULES.get(method, method).format(**{"target": "?", "cost": "?"} | choice)
    if isinstance(value, dict):
        cell = word(
            ", ".join(
                f"{name} {format_number(threshold)}"
                for name, threshold in list(value.items())[:12]
            )
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
    how = scaling.get("note", "minimum log loss")
    return cell, word(f"{name}, {how}"), word(scaling.get("chosen_on", "?"))


def class_table(arm: Arm) -> Table:
    """Tabulate precision, recall, F1, AUROC and support of the lowest seed by class."""
    run = arm.first
    per_class = run.metrics["per_class"]["test"]
    rule = "probability of 0.5" if run.task == "multilabel" else "largest probability"
    return _of_seed(arm, estimate_table(f"Decided by the {rule}", per_class, "class"))


def _of_seed(arm: Arm, table: Table) -> Table:
    """Add the seed to caption and head; a CSV file has a head only."""
    if not (seed := arm.shown_seed):
        return table
    head = (f"{table.head[0]} ({seed})", *table.head[1:])
    return replace(table, caption=f"{table.caption}, {seed}", head=head)


def threshold_table(arms: Sequence[Arm]) -> Table:
    """Tabulate each arm's threshold and its test metrics, of a binary task.

    Of each arm's lowest seed.
    """
    rows = {arm.shown_name: arm.first.metrics["test_at_threshold"] for arm in arms}
    table = transpose(estimate_table("At the threshold chosen on val", rows, ""), "")
    values = (estimate(arm.first.metrics["threshold"]) for arm in arms)
    threshold = (word("threshold"), *values)
    return annotated(replace(table, rows=(threshold, *table.rows)), STABILITY)


def class_threshold_table(arm: Arm) -> Table:
    """Tabulate one-vs-rest thresholds and their test metrics, class by class.

    Of the arm's lowest seed.
    """
    run = arm.first
    rows = run.metrics["test_at_threshold"]
    table = estimate_table("At one-vs-rest thresholds chosen on val", rows, "class")
    chosen = run.metrics["threshold"]
    body = (
        (row[0], estimate(_of_class(chosen, name)), *row[1:])
        for name, row in zip(rows, table.rows, strict=True)
    )
    head = (table.head[0], "threshold", *table.head[1:])
    table = annotated(replace(table, head=head, rows=tuple(body)), STABILITY)
    return _of_seed(arm, table)


def _of_class(chosen: Mapping[str, Any], name: str) -> dict[str, Any]:
    parts = {k: v for k, v in chosen.items() if isinstance(v, Mapping)}
    return {part: values.get(name) for part, values in parts.items() if name in values}


def _scaling(scaling: Mapping[str, Any]) -> Cell:
    """Return a cell of the fitted scaling, or of why there is none."""
    if scaling.get("temperature") is not None:
        return number(scaling["temperature"])
    if "reason" in scaling:
        return Cell(text="–", note=str(scaling["reason"]))
    method = scaling.get("method", "–")
    return word(SCALINGS.get(method, method))


def _in_pairs(run: RunRecord) -> dict[str, Any]:
    """Pair calibration errors of the test split before and after scaling."""
    errors = run.metrics["calibration"].get("test", {})
    names = [name for name in errors if not name.endswith("_calibrated")]
    pairs = (pair for name in names for pair in (name, f"{name}_calibrated"))
    return {name: errors[name] for name in pairs if name in errors}


def calibration_table(arms: Sequence[Arm]) -> Table:
    """Tabulate each arm's scaling, and calibration errors before and after it.

    Of each arm's lowest seed.
    """
    rows = {arm.shown_name: _in_pairs(arm.first) for arm in arms}
    bins = arms[0].first.metrics["calibration"].get("ece_bins")
    table = transpose(estimate_table("Calibration on the test split", rows, ""), "")
    scalings = [arm.first.metrics["calibration"] for arm in arms]
    methods = {scaling.get("method", "temperature") for scaling in scalings}
    name = "temperature" if methods == {"temperature"} else "scaling"
    table = replace(table, rows=((word(name), *map(_scaling, scalings)), *table.rows))
    notes = [f"ECE: expected calibration error with {bins} bins."] if bins else []
    if any("slope" in row for row in rows.values()):
        notes.append(
            "Perfect calibration has intercept 0, slope 1 and an O:E ratio (observed "
            "to expected positives) of 1."
        )
    warned = (str(scaling["note"]) for scaling in scalings if scaling.get("note"))
    notes += [f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(warned)]
    return annotated(table, *notes)


def confusion_table(arm: Arm) -> Table | None:
    """Tabulate the confusion matrix (true x predicted) of the lowest seed."""
    run = arm.first
    matrix = (run.metrics.get("confusion_matrix") or {}).get("test")
    if not matrix:
        return None
    names = run.class_names
    rows = zip(names, matrix, strict=True)
    body = tuple((word(name), *map(count, row)) for name, row in rows)
    head = ("true ↓ predicted →", *names)
    return _of_seed(arm, Table(caption="Counts", head=head, rows=body))
