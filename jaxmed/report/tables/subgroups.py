"""Subgroups of the test split: a forest plot and a table for each column."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from jaxmed.report.figures.forest import Line, draw_groups
from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    count,
    estimate,
    metric_title,
    p_cell,
    word,
)
from jaxmed.runs.record import Arm

DRAWN = "auroc"
WHOLE = "all images"
# Predictive values are not among them: they differ as the groups' prevalences do.
METRICS = ("auroc", "auprc", "accuracy", "f1")
BINARY = ("auroc", "auprc", "sensitivity", "specificity")


def subgroup_columns(arms: Sequence[Arm]) -> list[str]:
    """List the columns that every arm has subgroups of."""
    first, *others = (arm.first.metrics.get("subgroups") or {} for arm in arms)
    return [name for name in first if all(name in other for other in others)]


def draw_subgroups(arms: Sequence[Arm], column: str) -> Figure | None:
    """Draw AUROC value by value, and of the whole split above them.

    Small groups have hollow points and thin lines.

    Returns:
        None where the column has too many values, so that there are no numbers.
    """
    by_arm = [_values(arm, column) for arm in arms]
    names = list(dict.fromkeys(name for values in by_arm for name in values))
    if not names:
        return None
    groups = {WHOLE: [arm.first.metrics["test"] for arm in arms]}
    for name in names:
        groups[f"{column}: {name}"] = [values.get(name, {}) for values in by_arm]
    lines = {
        title: [_line(i, arms[i], estimates) for i, estimates in enumerate(tables)]
        for title, tables in groups.items()
    }
    remarks = {title: _remark(tables) for title, tables in groups.items()}
    title = f"test {metric_title(DRAWN)} by {column}"
    return draw_groups(lines, title, remarks)


def subgroup_table(arms: Sequence[Arm], column: str) -> Table:
    """Tabulate a column's subgroups: images, whether these are few, and metrics.

    Sensitivity and specificity are those at the threshold chosen on val.
    """
    several = len(arms) > 1 or bool(arms[0].shown_seed)
    binary = arms[0].first.task == "binary"
    names = BINARY if binary else METRICS
    head = [column, *(["arm"] if several else []), "images", *map(metric_title, names)]
    rows = []
    for name in dict.fromkeys(name for arm in arms for name in _values(arm, column)):
        for arm in arms:
            group = _values(arm, column).get(name)
            if group is None:
                continue
            arm_cell = [word(arm.shown_name)] if several else []
            numbers = [estimate(_metric(group, metric)) for metric in names]
            rows.append((word(name), *arm_cell, _images(group), *numbers))
    reasons = (arm.first.metrics["subgroups"][column].get("reason") for arm in arms)
    return Table(
        caption=f"Test split by {column}",
        head=tuple(head),
        rows=tuple(rows),
        note=next((f"No numbers: {reason}." for reason in reasons if reason), ""),
    )


def gaps_table(arms: Sequence[Arm], column: str) -> Table | None:
    """Tabulate the largest gap between two groups, with a test, by arm and metric.

    Small groups are left out. None where fewer than two groups are left.
    """
    rows, left_out = [], set()
    for arm in arms:
        described = arm.first.metrics["subgroups"][column]
        left_out |= {name for name, of in _values(arm, column).items() if of["small"]}
        for metric, gap in described.get("gaps", {}).items():
            between = f"{gap['high']} above {gap['low']}"
            cells = estimate(gap), word(between), p_cell(gap)
            rows.append((word(arm.shown_name), word(metric_title(metric)), *cells))
    if not rows:
        return None
    note = (
        "Largest gap: its interval holds for all gaps between groups at once. p: "
        "whether any two groups differ, adjusted for the number of their pairs and of "
        "metrics (Holm). Calibration gap: by how much probabilities after scaling are "
        "too high on average."
    )
    if left_out:
        note += f" Small groups are left out: {', '.join(sorted(left_out))}."
    return Table(
        caption=f"Largest gap by {column}",
        head=("arm", "metric", "largest gap", "between", "p, any two groups"),
        rows=tuple(rows),
        note=note,
    )


def _values(arm: Arm, column: str) -> dict[str, Any]:
    return arm.first.metrics["subgroups"][column].get("values", {})


def _images(group: dict[str, Any]) -> Cell:
    cell = count(group["n"])
    text = f"of {group['groups']:,} patients" if "groups" in group else ""
    text += f" ({group['small']})" if group["small"] else ""
    return replace(cell, range=text.strip())


def _metric(group: dict[str, Any], name: str) -> Any:
    return group.get(name, (group.get("at_threshold") or {}).get(name))


def _remark(tables: Sequence[dict[str, Any]]) -> str:
    n = next((table["n"] for table in tables if "n" in table), 0)
    small = any(table.get("small") for table in tables)
    return f"n = {n:,}" + (", small" if small else "")


def _line(index: int, arm: Arm, group: dict[str, Any]) -> Line:
    drawn = group.get(DRAWN, {})
    return Line(
        name=arm.name,
        index=index,
        value=drawn.get("value"),
        low=drawn.get("ci_low"),
        high=drawn.get("ci_high"),
        faint=bool(group.get("small")),
    )
