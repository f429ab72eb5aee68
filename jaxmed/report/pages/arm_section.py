"""What the page shows of one arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.colors import LogNorm

from jaxmed.report.figures.catalog import Drawings, run_drawings
from jaxmed.report.figures.style import color
from jaxmed.report.figures.training_curves import Ranges
from jaxmed.report.interactive.gallery import gallery_items
from jaxmed.report.tables.formatting import (
    class_table,
    class_threshold_table,
    confusion_table,
    environment_table,
    groups_table,
)
from jaxmed.report.tables.published import Expected
from jaxmed.runs.record import Arm
from jaxmed.runtime.files import atomic_write
from jaxmed.runtime.progress import Advance

KINDS = ("stages", "curves", "roc", "precision_recall", "reliability", "confusion")
JOINT = ("roc", "precision_recall")


def arm_section(
    index: int,
    arm: Arm,
    limits: Ranges,
    scale: LogNorm | None,
    expected: Sequence[Expected],
    room: int,
    advance: Advance,
) -> dict[str, Any]:
    """Draws the figures of all runs of an arm and gathers what the page needs.

    Args:
        index: the arm's number, which gives its color.
        arm: the arm; its lowest seed is the one shown.
        limits: common ranges of the training curves.
        scale: common scale of the learning rates' colors.
        expected: published numbers.
        room: for the gallery, in characters of the page.
        advance: told of every run drawn.

    Returns:
        Pictures (`Shot` or None), tables (`Table` or None) and the gallery, by name.
    """
    drawings = {}
    for run in reversed(arm.runs):
        drawings = run_drawings(run, limits, scale, expected)
        _keep(run.folder / "figures", drawings)
        advance(1)
    run, name = arm.first, arm.name
    # The page has one picture of all arms of these, if the task is binary.
    joint = JOINT if run.task == "binary" else ()
    shots = {
        kind: drawings[kind].shot() if kind in drawings and kind not in joint else None
        for kind in KINDS
    }
    return shots | {
        "name": name,
        "color": color(index),
        "counts": confusion_table(arm),
        "classes": class_table(arm),
        "thresholds": None if run.task == "binary" else class_threshold_table(arm),
        "gallery": gallery_items(run, room),
        "groups": groups_table(run),
        "environment": environment_table(run),
        "config": run.config,
    }


def _keep(folder: Path, drawings: Drawings) -> None:
    for name, drawing in drawings.items():
        with atomic_write(folder / f"{name}.png") as part:
            part.write_bytes(drawing.png)
