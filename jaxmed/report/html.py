"""The report: one HTML file that needs nothing but itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxmed.files import write_text
from jaxmed.progress import progress
from jaxmed.report.arms import arm_section
from jaxmed.report.augmentation import augmented_shots
from jaxmed.report.card import CAUTION, model_card
from jaxmed.report.chosen import chosen_table
from jaxmed.report.comparison import COMPARED, Comparison
from jaxmed.report.cost import cost_table
from jaxmed.report.curves import common_limits
from jaxmed.report.data_summary import data_table, skipped_table
from jaxmed.report.explorer import explorer_context
from jaxmed.report.forest import draw_forest, draw_groups
from jaxmed.report.gallery import SHOWN, describe_gallery, gallery_filters
from jaxmed.report.notes import facts, section_notes
from jaxmed.report.page import render_page
from jaxmed.report.pictures import Shot, figure_shot, samples_shot
from jaxmed.report.published import Expected, published_table
from jaxmed.report.records import Arm, read_experiment
from jaxmed.report.roc import NAMED_CLASSES, draw_binary_roc
from jaxmed.report.stages import rate_scale
from jaxmed.report.style import png
from jaxmed.report.summary import (
    class_lines,
    difference_lines,
    differences_table,
    summary_lines,
    summary_table,
)
from jaxmed.report.tables import calibration_table, metric_title, threshold_table
from jaxmed.report.verdict import verdict


def build_report(
    folder: Path,
    *,
    title: str,
    description: str = "",
    expected: Sequence[Expected] | None = None,
    arms: Sequence[str] | None = None,
) -> Path:
    """Writes `report.html` and the figures of every run.

    It reads nothing but the experiment's folder, so it can be called again at any
    time, and without the data set.

    Args:
        folder: `OUT/<experiment>`, with at least one finished run in it.
        title: the headline of the page.
        description: a sentence or two about the experiment.
        expected: published numbers, {"arm", "metric", "value", "source"}; a value is
            a number or a list with one per epoch.
        arms: names of arms in the order wanted; the first is what the others are
            compared with. None: alphabetical.

    Returns:
        The path of report.html. It is there complete or not at all.

    Raises:
        InputError: the folder holds no finished run, or a damaged one.
    """
    folder = Path(folder)
    found, unfinished = read_experiment(folder, arms)
    context = _context(folder, found, expected or ())
    html = render_page(
        "page.html.j2",
        title=title,
        description=description,
        unfinished=unfinished,
        **context,
    )
    path = folder / "report.html"
    write_text(path, html)
    return path


def _context(
    folder: Path, arms: Sequence[Arm], expected: Sequence[Expected]
) -> dict[str, Any]:
    runs = [run for arm in arms for run in arm.runs]
    limits, scale = common_limits(runs), rate_scale(runs)
    binary = arms[0].first.task == "binary"
    samples = folder / "samples.png"
    with progress("Drawing the report", len(runs) + 1, unit="runs") as advance:
        sections = [
            arm_section(
                index, arm, limits, scale, expected, SHOWN // len(arms), advance
            )
            for index, arm in enumerate(arms)
        ]
        comparison = Comparison(arms)
        forests = _forests(comparison)
        joint_roc = _joint_roc(arms) if binary else None
        by_class = _class_forests(comparison)
        advance(1)
    headline = verdict(comparison)
    context = {
        "verdict": headline,
        "card": model_card(comparison, headline.best),
        "caution": CAUTION,
        "data": data_table(arms[0].first),
        "skipped": skipped_table(arms[0].first),
        "chosen": chosen_table(arms),
        "explorer": explorer_context(arms),
        "facts": facts(arms, _when(arms)),
        "notes": section_notes(arms) | {"maps": describe_gallery(arms)},
        "forests": forests,
        "summary": summary_table(comparison),
        "cost": cost_table(comparison),
        "differences": differences_table(comparison) if len(arms) > 1 else None,
        "samples": samples_shot(samples) if samples.exists() else None,
        "augmented": augmented_shots(arms),
        "arms": sections,
        "by_class": by_class,
        "staged": any(section["stages"] for section in sections),
        "trained": any(section["curves"] for section in sections),
        "joint_roc": joint_roc,
        "thresholds": threshold_table(arms) if binary else None,
        "calibration": calibration_table(arms),
        "filters": gallery_filters(sections),
        "published": published_table(comparison, expected) if expected else None,
    }
    return context | {"contents": _contents(context)}


def _forests(comparison: Comparison) -> list[Shot]:
    arms, shots = comparison.arms, []
    for metric in COMPARED:
        name = metric_title(metric)
        drawn = draw_forest(summary_lines(comparison, metric), f"test {name}")
        alt = f"Test {name} of every arm with intervals; a table has the numbers."
        shots.append(figure_shot(png(drawn), alt))
        if len(arms) > 1:
            title = f"difference in test {name}"
            lines = difference_lines(comparison, metric)
            drawn = draw_forest(lines, title, zero=True)
            alt = f"Differences in test {name} from {arms[0].name}, with intervals."
            shots.append(figure_shot(png(drawn), alt))
    return shots


def _class_forests(comparison: Comparison) -> list[Shot]:
    run, shots = comparison.arms[0].first, []
    if len(run.class_names) > NAMED_CLASSES:
        return []
    metrics = ("precision", "recall") if run.task == "binary" else ("f1", "auroc")
    for metric in metrics:
        name = metric_title(metric)
        drawn = draw_groups(class_lines(comparison, metric), f"test {name} by class")
        alt = f"Test {name} of every class and arm; the tables have the numbers."
        shots.append(figure_shot(png(drawn), alt))
    return shots


def _joint_roc(arms: Sequence[Arm]) -> Shot:
    alt = "ROC curves of all arms on the test split."
    return figure_shot(png(draw_binary_roc(arms)), alt)


def _when(arms: Sequence[Arm]) -> str:
    """The time of the newest run, from its files."""
    times = [(r.folder / "metrics.json").stat().st_mtime for a in arms for r in a.runs]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has, as (anchor, name)."""
    sections = (
        ("results", "Results", True),
        ("data", "Data", True),
        ("training", "Training", context["staged"] or context["trained"]),
        ("discrimination", "ROC and confusion", True),
        ("thresholds", "Thresholds", context["explorer"]),
        ("classes", "Classes", True),
        ("calibration", "Calibration", True),
        ("maps", "Gallery", context["filters"]),
        ("published", "Published", context["published"]),
        ("card", "Model card", True),
        ("protocol", "Protocol", True),
    )
    return [(anchor, name) for anchor, name, there in sections if there]
