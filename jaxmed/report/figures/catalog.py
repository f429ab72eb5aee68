"""Catalog of an experiment's figures by name, for the page and for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jaxmed.config.published import Expectation
from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.figures.discrimination import (
    NAMED_CLASSES,
    draw_binary_precision_recall,
    draw_binary_roc,
    draw_class_precision_recall,
    draw_class_roc,
    draw_confusion,
)
from jaxmed.report.figures.faithfulness_curves import draw_faithfulness
from jaxmed.report.figures.forest import draw_forest, draw_groups
from jaxmed.report.figures.probability_curves import (
    draw_decision_curves,
    draw_reliability,
    draw_risk_coverage,
)
from jaxmed.report.figures.strategy_diagram import draw_stages
from jaxmed.report.figures.style import png
from jaxmed.report.figures.training_curves import Ranges, draw_curves
from jaxmed.report.page import EmbeddedImage, embed_figure
from jaxmed.report.tables.formatting import metric_title
from jaxmed.report.tables.results import (
    class_lines,
    difference_lines,
    published_curves,
    summary_lines,
)
from jaxmed.report.tables.subgroups import draw_subgroups, subgroup_columns
from jaxmed.report.text.phases import describe_phases, read_phases
from jaxmed.runs.record import Arm, RunRecord


class Picture(NamedTuple):
    """A figure as a PNG file, and what it shows, for those who do not see it."""

    png: bytes
    alt: str

    def shot(self) -> EmbeddedImage:
        """Return the picture embedded in the page."""
        return embed_figure(self.png, self.alt)


@dataclass(frozen=True, kw_only=True)
class CatalogFigure:
    """A figure, and what it shows, for those who do not see it."""

    figure: Figure
    alt: str

    @cached_property
    def picture(self) -> Picture:
        """Draw the figure, which takes most of a report's time."""
        return Picture(png(self.figure), self.alt)


Figures = dict[str, CatalogFigure]


def run_figures(
    run: RunRecord,
    limits: Ranges,
    scale: LogNorm | None,
    expected: Sequence[Expectation] = (),
) -> Figures:
    """Draw the figures of one run.

    Args:
        run: the run.
        limits: common ranges of the training curves.
        scale: common scale of the learning rates' colors.
        expected: published numbers.
    """
    name, figures, test = run.arm, {}, "on the test split"

    def add(key: str, figure: Figure | None, alt: str) -> None:
        if figure is not None:
            figures[key] = CatalogFigure(figure=figure, alt=alt)

    if phases := read_phases(run):
        add("stages", draw_stages(phases, scale), describe_phases(name, phases))
    if run.history:
        rates = " Below them, the learning rates." if limits[2] else ""
        alt = f"Training curves of {name}: loss, accuracy and AUROC by epoch.{rates}"
        add("curves", draw_curves(run, limits, published_curves(name, expected)), alt)
    if run.task == "binary":
        arm = [Arm(name=name, runs=(run,))]
        roc, recall = draw_binary_roc(arm), draw_binary_precision_recall(arm)
        rest = "."
    else:
        roc, recall = draw_class_roc(run), draw_class_precision_recall(run)
        rest = ", one class against the rest."
    add("roc", roc, f"ROC curves of {name} {test}{rest}")
    add("precision_recall", recall, f"Precision-recall curves of {name} {test}{rest}")
    alt = f"Reliability diagram of {name} {test}, before and after scaling."
    add("reliability", draw_reliability(run), alt)
    if matrix := (run.metrics.get("confusion_matrix") or {}).get("test"):
        alt = f"Confusion matrix of {name} {test}."
        add("confusion", draw_confusion(matrix, run.class_names), alt)
    alt = f"Insertion and deletion curves of the maps of {name}, and of random maps."
    add("faithfulness", draw_faithfulness(run), alt)
    return figures


def forest_figures(comparison: Comparison) -> Figures:
    """Draw metrics of all arms, and their differences from the first arm."""
    arms, figures = comparison.arms, {}
    for metric in COMPARED:
        name = metric_title(metric)
        drawn = draw_forest(summary_lines(comparison, metric), f"test {name}")
        alt = f"Test {name} of every arm with intervals; a table has the numbers."
        figures[metric] = CatalogFigure(figure=drawn, alt=alt)
        if len(arms) > 1:
            title = f"difference in test {name}"
            lines = difference_lines(comparison, metric)
            drawn = draw_forest(lines, title, zero=True)
            alt = f"Differences in test {name} from {arms[0].name}, with intervals."
            figures[f"{metric}_difference"] = CatalogFigure(figure=drawn, alt=alt)
    return figures


def class_figures(comparison: Comparison) -> Figures:
    """Draw metrics of all arms, class by class; none with very many classes."""
    run, figures = comparison.arms[0].first, {}
    if len(run.class_names) > NAMED_CLASSES:
        return {}
    metrics = ("precision", "recall") if run.task == "binary" else ("f1", "auroc")
    for metric in metrics:
        name = metric_title(metric)
        drawn = draw_groups(class_lines(comparison, metric), f"test {name} by class")
        alt = f"Test {name} of every class and arm; the tables have the numbers."
        figures[f"class_{metric}"] = CatalogFigure(figure=drawn, alt=alt)
    return figures


def joint_figures(arms: Sequence[Arm]) -> Figures:
    """Draw the curves of all arms in one figure, of a binary task."""
    if arms[0].first.task != "binary":
        return {}
    curves: dict[str, Any] = {
        "roc": (draw_binary_roc, "ROC curves"),
        "precision_recall": (draw_binary_precision_recall, "Precision-recall curves"),
    }
    return {
        key: CatalogFigure(
            figure=draw(arms), alt=f"{title} of all arms on the test split."
        )
        for key, (draw, title) in curves.items()
    }


def utility_figures(arms: Sequence[Arm]) -> Figures:
    """Draw decision curves (of a binary task) and risk-coverage curves."""
    figures = {}
    if arms[0].first.task == "binary":
        alt = "Net benefit of every arm by threshold, and of treating all and none."
        figures["decision_curve"] = CatalogFigure(
            figure=draw_decision_curves(arms), alt=alt
        )
    alt = "Share of errors of every arm by the share of images that it decides."
    figures["risk_coverage"] = CatalogFigure(figure=draw_risk_coverage(arms), alt=alt)
    return figures


def subgroup_figures(arms: Sequence[Arm]) -> Figures:
    """Draw AUROC by subgroup, for each column that has subgroups."""
    figures = {}
    for column in subgroup_columns(arms):
        if (figure := draw_subgroups(arms, column)) is not None:
            alt = f"Test AUROC of every arm by {column}; the table has the numbers."
            figures[column] = CatalogFigure(figure=figure, alt=alt)
    return figures
