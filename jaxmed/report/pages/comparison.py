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
    spread_table,
    training_table,
)
from jaxmed.report.tables.formatting import Table, metric_title, word
from jaxmed.report.tables.results import make_line
from jaxmed.runtime.files import write_text


def build_comparison_page(path: Path, found: ComparisonResult) -> None:
    """Write the page.

    Args:
        path: of the HTML file; it is there complete or not at all.
        found: what `compare_arms` returned, with "notes", and of each arm "runs".
    """
    pairs = [
        {
            "name": f"{one['a']} − {one['b']}",
            "forests": _forests(found, one),
            "tables": [difference_table(found, one), training_table(found, one)],
            "classes": class_difference_table(found, one),
        }
        for one in found["comparisons"]
    ]
    html = render_page(
        "comparison.html.j2",
        title=" · ".join(found["arms"]),
        headlines=comparison_sentences(found),
        facts=_facts(found),
        explained=method_sentences(found),
        remarks=found["notes"],
        across=_across(found) if len(pairs) > 1 else [],
        pairs=pairs,
        spread=spread_table(found),
        runs=_runs_table(found),
    )
    write_text(path, html)


def _facts(found: ComparisonResult) -> list[tuple[str, str]]:
    images = f"{found['n']:,}"
    if "groups" in found:
        images += f" of {found['groups']:,} groups"
    classes = ", ".join(found["class_names"][:NAMED_CLASSES])
    more = len(found["class_names"]) - NAMED_CLASSES
    if more > 0:
        classes += f", … ({more} more)"
    if "positive_class" in found:
        classes += f" (positive: {found['positive_class']})"
    return [
        ("Test images", images),
        ("Task", found["task"]),
        ("Classes", classes),
        ("Fingerprint of ids and labels", found["images"][:16]),
    ]


def _forests(found: ComparisonResult, one: ComparisonResult) -> list[EmbeddedImage]:
    """Draw the differences of a pair, metric by metric and class by class."""
    index = list(found["arms"]).index(one["a"])
    name = f"{one['a']} − {one['b']}"
    lines = [
        make_line(index, metric_title(metric), difference)
        for metric, difference in one["metrics"].items()
        if not lower_is_better(metric)
    ]
    shots = [_forest(lines, "difference on the test split", f"{name}, every metric")]
    classes = one["per_class"]
    if 0 < len(classes) <= NAMED_CLASSES:
        lines = [
            make_line(index, of, metrics["auroc"]) for of, metrics in classes.items()
        ]
        title = "difference in AUROC by class"
        shots.append(_forest(lines, title, f"{name}, AUROC of every class"))
    return shots


def _across(found: ComparisonResult) -> list[EmbeddedImage]:
    """Draw the differences of all pairs in AUROC and in accuracy."""
    shots, arms = [], list(found["arms"])
    for metric in ("auroc", "accuracy"):
        lines = [
            make_line(
                arms.index(one["a"]),
                f"{one['a']} − {one['b']}",
                one["metrics"][metric],
            )
            for one in found["comparisons"]
            if metric in one["metrics"]
        ]
        title = f"difference in test {metric_title(metric)}"
        if lines:
            shots.append(_forest(lines, title, f"{title} of every pair"))
    return shots


def _forest(lines: list[Line], title: str, what: str) -> EmbeddedImage:
    alt = f"{what}: differences with intervals; a table has the numbers."
    return embed_figure(png(draw_forest(lines, title, zero=True)), alt)


def _runs_table(found: ComparisonResult) -> Table:
    rows = [
        (word(name), word(", ".join(arm["runs"])))
        for name, arm in found["arms"].items()
    ]
    return Table(caption="Compared runs", head=("name", "folders"), rows=tuple(rows))
