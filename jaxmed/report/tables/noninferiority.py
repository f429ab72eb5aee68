"""Table and sentences of non-inferiority and equivalence within a margin."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    estimate,
    format_p,
    interval,
    metric_title,
    word,
)

FIXED = (
    "A margin is only valid if it was fixed before the results were seen, with a "
    "clinical reason; one chosen to fit them proves nothing."
)


def margin_table(result: Mapping[str, Any]) -> Table | None:
    """Tabulate the tests of `margin_tests`; None where there was no margin."""
    within = result.get("margin")
    if within is None:
        return None
    rows = []
    for test in within["comparisons"]:
        names = f"{test['a']} vs {test['b']}"
        rows.append((word(names), word("these models"), *_cells(test)))
        again = test["another_training"]
        if again["value"] is not None:
            rows.append((word(names), word("retrained models"), *_cells(again)))
    title, margin = metric_title(within["metric"]), within["margin"]
    return Table(
        caption=f"Non-inferiority and equivalence, margin of {margin:g} in {title}",
        head=("pair", "of", "better by", "p, non-inferior", "p, equivalent", "result"),
        rows=tuple(rows),
        note=f"One-sided tests at {within['alpha']:g}, adjusted by Holm for "
        f"{len(within['comparisons'])} comparisons. {FIXED}",
    )


def margin_sentences(result: Mapping[str, Any]) -> Iterator[str]:
    """Describe what the margin shows about each pair of these models."""
    within = result.get("margin")
    if within is None:
        return
    for test in within["comparisons"]:
        if test["value"] is None:
            yield (
                f"{test['a']} and {test['b']}: no test of the margin, {test['reason']}."
            )
            continue
        yield (
            f"{test['a']} is {_conclusion(test)} to {test['b']} within a margin of "
            f"{within['margin']:g} in {metric_title(within['metric'])}: better by "
            f"{estimate(test, sign=True).text} {interval(test, sign=True)}, "
            f"p {_shown(test, 'noninferior')} for non-inferiority and "
            f"{_shown(test, 'equivalent')} for equivalence."
        )


def _cells(test: Mapping[str, Any]) -> tuple[Cell, ...]:
    if test["value"] is None:
        return (estimate(test), *[Cell(text="–")] * 3)
    names = ("noninferior", "equivalent")
    p_cells = [test[f"p_{name}_holm"] for name in names]
    numbers = [Cell(text=format_p(p), exact=p) for p in p_cells]
    return (estimate(test, sign=True), *numbers, word(_conclusion(test)))


def _conclusion(test: Mapping[str, Any]) -> str:
    if test["equivalent"]:
        return "equivalent"
    return "non-inferior" if test["noninferior"] else "not shown to be non-inferior"


def _shown(test: Mapping[str, Any], name: str) -> str:
    text = format_p(test[f"p_{name}_holm"])
    return text if text.startswith("<") else f"= {text}"
