"""What the page shows of one arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.colors import LogNorm

from jaxmed.progress import Advance
from jaxmed.report.confusion import draw_confusion
from jaxmed.report.curves import Ranges, draw_curves
from jaxmed.report.gallery import gallery_items
from jaxmed.report.phases import describe_phases, read_phases
from jaxmed.report.pictures import figure_shot
from jaxmed.report.published import Expected, published_curves
from jaxmed.report.records import Arm, RunRecord
from jaxmed.report.roc import draw_binary_roc, draw_class_roc
from jaxmed.report.stages import draw_stages
from jaxmed.report.style import color, png
from jaxmed.report.tables import (
    class_table,
    class_threshold_table,
    confusion_table,
    environment_table,
    groups_table,
)


def arm_section(
    index: int,
    arm: Arm,
    limits: Ranges,
    scale: LogNorm | None,
    expected: Sequence[Expected],
    maps: int,
    advance: Advance,
) -> dict[str, Any]:
    """Draws the figures of all runs of an arm and gathers what the page needs.

    Args:
        index: the arm's number, which gives its colour.
        arm: the arm; its lowest seed is the one shown.
        limits: common ranges of the training curves.
        scale: common scale of the learning rates' colours.
        expected: published numbers.
        maps: the largest number of maps to show.
        advance: told of every run drawn.

    Returns:
        Pictures (`Shot` or None), tables (`Table` or None) and the gallery, by name.
    """
    figures = {}
    for run in reversed(arm.runs):
        published = published_curves(arm.name, expected)
        figures = _draw_run(run, limits, scale, published)
        _keep(run.folder / "figures", figures)
        advance(1)
    run, name = arm.first, arm.name
    rates = " Below them, the learning rates." if limits[2] else ""
    alts = {
        "stages": describe_phases(name, read_phases(run)),
        "curves": f"Training curves of {name}: loss, accuracy and AUROC by epoch."
        f"{rates}",
        "roc": f"ROC curves of {name} on the test split, one class against the rest.",
        "confusion": f"Confusion matrix of {name} on the test split.",
    }
    if run.task == "binary":
        # The page has one ROC picture for all arms.
        del figures["roc"]
    shots = {
        kind: figure_shot(figures[kind], alt) if kind in figures else None
        for kind, alt in alts.items()
    }
    matrix = (run.metrics.get("confusion_matrix") or {}).get("test")
    return shots | {
        "name": name,
        "color": color(index),
        "counts": confusion_table(matrix, run.class_names) if matrix else None,
        "classes": class_table(run),
        "thresholds": None if run.task == "binary" else class_threshold_table(run),
        "gallery": gallery_items(run, maps),
        "groups": groups_table(run),
        "environment": environment_table(run),
        "config": run.config,
    }


def _draw_run(run: RunRecord, limits, scale, published) -> dict[str, bytes]:
    figures = {}
    if phases := read_phases(run):
        figures["stages"] = png(draw_stages(phases, scale))
    if run.history:
        figures["curves"] = png(draw_curves(run, limits, published))
    if run.task == "binary":
        figures["roc"] = png(draw_binary_roc([Arm(name=run.arm, runs=(run,))]))
    else:
        figures["roc"] = png(draw_class_roc(run))
    if matrix := (run.metrics.get("confusion_matrix") or {}).get("test"):
        figures["confusion"] = png(draw_confusion(matrix, run.class_names))
    return figures


def _keep(folder: Path, figures: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in figures.items():
        (folder / f"{name}.png").write_bytes(content)
