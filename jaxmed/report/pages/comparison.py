"""Comparison page of `compare`: differences, their intervals and tests."""

from pathlib import Path

from jaxmed.report.figures.discrimination import NAMED_CLASSES
from jaxmed.report.figures.forest import Line, draw_forest
from jaxmed.report.figures.style import png
from jaxmed.report.page import EmbeddedImage, embed_figure, render_page
from jaxmed.report.tables.comparison import (
    ComparisonResult,
    class_difference_table,
    comparison_sentences,
    difference_table,
    lower_is_better,
    method_sentences,
    net_benefit_table,
    spread_table,
    training_table,
)
from jaxmed.report.tables.formatting import Table, metric_title, word
from jaxmed.report.tables.noninferiority import margin_sentences, margin_table
from jaxmed.report.tables.results import make_line
from jaxmed.runtime.files import write_text


def build_comparison_page(path: Path, result: ComparisonResult) -> None:
    """Write the page.

    Args:
        path: of the HTML file; it is there complete or not at all.
        result: what `compare_arms` returned, with "notes", and of each arm "runs".
    """
    pairs = [
        {
            "name": f"{pair['a']} − {pair['b']}",
            "forests": _forests(result, pair),
            "tables": [
                difference_table(result, pair),
                training_table(result, pair),
                net_benefit_table(pair),
            ],
            "classes": class_difference_table(result, pair),
        }
        for pair in result["comparisons"]
    ]
    html = render_page(
        "comparison.html.j2",
        title=" · ".join(result["arms"]),
        headlines=[*comparison_sentences(result), *margin_sentences(result)],
        facts=_facts(result),
        explained=method_sentences(result),
        remarks=result["notes"],
        across=_across(result) if len(pairs) > 1 else [],
        pairs=pairs,
        margin=margin_table(result),
        spread=spread_table(result),
        runs=_runs_table(result),
    )
    write_text(path, html)


def _facts(result: ComparisonResult) -> list[tuple[str, str]]:
    images = f"{result['n']:,}"
    if "groups" in result:
        images += f" of {result['groups']:,} groups"
    classes = ", ".join(result["class_names"][:NAMED_CLASSES])
    more = len(result["class_names"]) - NAMED_CLASSES
    if more > 0:
        classes += f", … ({more} more)"
    if "positive_class" in result:
        classes += f" (positive: {result['positive_class']})"
    return [
        ("Test images", images),
        ("Task", result["task"]),
        ("Classes", classes),
        ("Fingerprint of ids and labels", result["images"][:16]),
    ]


def _forests(result: ComparisonResult, pair: ComparisonResult) -> list[EmbeddedImage]:
    """Draw the differences of a pair, metric by metric and class by class."""
    index = list(result["arms"]).index(pair["a"])
    name = f"{pair['a']} − {pair['b']}"
    lines = [
        make_line(index, metric_title(metric), difference)
        for metric, difference in pair["metrics"].items()
        if not lower_is_better(metric)
    ]
    shots = [_forest(lines, "difference on the test split", f"{name}, every metric")]
    classes = pair["per_class"]
    if 0 < len(classes) <= NAMED_CLASSES:
        lines = [
            make_line(index, of, metrics["auroc"]) for of, metrics in classes.items()
        ]
        title = "difference in AUROC by class"
        shots.append(_forest(lines, title, f"{name}, AUROC of every class"))
    return shots


def _across(result: ComparisonResult) -> list[EmbeddedImage]:
    """Draw the differences of all pairs in AUROC and in accuracy."""
    shots, arms = [], list(result["arms"])
    for metric in ("auroc", "accuracy"):
        lines = [
            make_line(
                arms.index(pair["a"]),
                f"{pair['a']} − {pair['b']}",
                pair["metrics"][metric],
            )
            for pair in result["comparisons"]
            if metric in pair["metrics"]
        ]
        title = f"difference in test {metric_title(metric)}"
        if lines:
            shots.append(_forest(lines, title, f"{title} of every pair"))
    return shots


def _forest(lines: list[Line], title: str, subject: str) -> EmbeddedImage:
    alt = f"{subject}: differences with intervals; a table has the numbers."
    return embed_figure(png(draw_forest(lines, title, zero=True)), alt)


def _runs_table(result: ComparisonResult) -> Table:
    rows = [
        (word(name), word(", ".join(arm["runs"])))
        for name, arm in result["arms"].items()
    ]
    return Table(caption="Compared runs", head=("name", "folders"), rows=tuple(rows))
