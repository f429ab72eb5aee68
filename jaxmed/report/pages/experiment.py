"""The report of an experiment: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxmed.config.published import Expectation
from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures.catalog import (
    Figures,
    Picture,
    class_figures,
    forest_figures,
    joint_figures,
    subgroup_figures,
    utility_figures,
)
from jaxmed.report.figures.strategy_diagram import rate_scale
from jaxmed.report.figures.style import color
from jaxmed.report.figures.training_curves import common_limits
from jaxmed.report.figures.workers import RunPictures
from jaxmed.report.interactive.gallery import (
    EMBEDDED,
    describe_gallery,
    gallery_filters,
    gallery_items,
)
from jaxmed.report.interactive.threshold_explorer import explorer_context
from jaxmed.report.page import EmbeddedImage, embed_samples, render_page
from jaxmed.report.tables.by_patient import patient_table
from jaxmed.report.tables.decisions import (
    calibration_table,
    class_table,
    class_threshold_table,
    confusion_table,
    selection_table,
    threshold_table,
)
from jaxmed.report.tables.ensembles import ensemble_table
from jaxmed.report.tables.external_validation import runs_table
from jaxmed.report.tables.faithfulness import NOTE, faithfulness_table
from jaxmed.report.tables.formatting import Table
from jaxmed.report.tables.provenance import (
    cost_table,
    data_table,
    environment_table,
    groups_table,
    skipped_table,
)
from jaxmed.report.tables.results import (
    differences_table,
    published_table,
    summary_table,
)
from jaxmed.report.tables.subgroups import gaps_table, subgroup_columns, subgroup_table
from jaxmed.report.text.captions import augmented_images, facts, section_notes
from jaxmed.report.text.checklist import INTRODUCTION, checklist
from jaxmed.report.text.external_validation import ADVICE, CANNOT_TELL
from jaxmed.report.text.headline import headline
from jaxmed.report.text.model_card import CAUTION, model_card
from jaxmed.runs.layout import METRICS, REPORT, SAMPLES
from jaxmed.runs.record import Arm, read_experiment, read_validations
from jaxmed.runtime.files import atomic_write, write_text
from jaxmed.runtime.progress import progress

KINDS = (
    "stages",
    "curves",
    "roc",
    "precision_recall",
    "reliability",
    "confusion",
    "faithfulness",
)
JOINT = ("roc", "precision_recall")


def arm_section(
    index: int,
    arm: Arm,
    drawings: Mapping[str, Picture],
    room: int,
) -> dict[str, Any]:
    """Gather what the page needs of an arm.

    Args:
        index: the arm's number, which gives its color.
        arm: the arm; its lowest seed is the one shown.
        drawings: the figures of that run, by name.
        room: for the gallery, in characters of the page.

    Returns:
        Images (`EmbeddedImage` or None), tables (`Table` or None) and the gallery.
    """
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
        "measures": faithfulness_table(run),
        "groups": groups_table(run),
        "environment": environment_table(run),
        "config": run.config,
    }


def _keep(folder: Path, drawings: Mapping[str, Picture]) -> None:
    for name, drawing in drawings.items():
        with atomic_write(folder / f"{name}.png") as part:
            part.write_bytes(drawing.png)


def build_report(
    folder: Path,
    *,
    title: str,
    description: str = "",
    expected: Sequence[Expectation] | None = None,
    arms: Sequence[str] | None = None,
) -> Path:
    """Write `report.html` and the figures of every run.

    It reads nothing but the experiment's folder, so it can be called again at any
    time, and without the data set.

    Args:
        folder: `OUT/<experiment>`, with at least one finished run in it.
        title: the headline of the page.
        description: a sentence or two about the experiment.
        expected: published numbers.
        arms: names of arms in the order wanted; the first is what the others are
            compared with. None: alphabetical.

    Returns:
        The path of report.html. It is there complete or not at all.

    Raises:
        InputError: the folder holds no finished run, or a damaged one.
    """
    folder = Path(folder)
    finished, unfinished = read_experiment(folder, arms)
    context = _context(folder, finished, expected or ())
    html = render_page(
        "page.html.j2",
        title=title,
        description=description,
        unfinished=unfinished,
        **context,
    )
    path = folder / REPORT
    write_text(path, html)
    return path


def _context(
    folder: Path, arms: Sequence[Arm], expected: Sequence[Expectation]
) -> dict[str, Any]:
    runs = [run for arm in arms for run in arm.runs]
    comparison = Comparison(arms)
    limits, scale = common_limits(runs), rate_scale(runs)
    with (
        progress("Drawing the report", len(runs) + 1, unit="runs") as advance,
        RunPictures(runs, limits, scale, expected) as pictures,
    ):
        context = _pictures(comparison) | _tables(comparison, expected)
        advance(1)
        drawn = pictures.collect(advance)
    for run, drawings in zip(runs, drawn, strict=True):
        _keep(run.folder / "figures", drawings)
    drawings_of = {run.folder: d for run, d in zip(runs, drawn, strict=True)}
    room = EMBEDDED // len(arms)
    sections = [
        arm_section(index, arm, drawings_of[arm.first.folder], room)
        for index, arm in enumerate(arms)
    ]
    samples = folder / SAMPLES
    context |= {
        "arms": sections,
        "filters": gallery_filters(sections, context["headline"].best.name),
        "facts": facts(arms, _when(arms)),
        "notes": section_notes(comparison)
        | {"maps": describe_gallery(arms), "faithfulness": NOTE}
        | {"checklist": INTRODUCTION},
        "validations": _validations(arms),
        "internal": f"{CANNOT_TELL} {ADVICE}",
        "caution": CAUTION,
        "samples": embed_samples(samples) if samples.exists() else None,
        "augmented": augmented_images(arms),
        "explorer": explorer_context(arms),
    }
    return context | {"contents": _contents(context)}


def _pictures(comparison: Comparison) -> dict[str, Any]:
    return {
        "forests": _shots(forest_figures(comparison)),
        "joint": _shots(joint_figures(comparison.arms)),
        "by_class": _shots(class_figures(comparison)),
        "utility": _shots(utility_figures(comparison.arms)),
        "subgroups": _subgroups(comparison.arms),
    }


def _tables(comparison: Comparison, expected: Sequence[Expectation]) -> dict[str, Any]:
    arms, summary = comparison.arms, headline(comparison)
    run = arms[0].first
    return {
        "headline": summary,
        "card": model_card(comparison, summary.best),
        "checklist": [item.line for item in checklist(summary.best.first)],
        "summary": summary_table(comparison),
        "patients": patient_table(arms),
        "cost": cost_table(comparison) if _has_costs(arms) else None,
        "differences": differences_table(comparison) if len(arms) > 1 else None,
        "ensembles": ensemble_table(arms),
        "data": data_table(run),
        "skipped": skipped_table(run),
        "chosen": selection_table(arms),
        "thresholds": threshold_table(arms) if run.task == "binary" else None,
        "calibration": calibration_table(arms),
        "published": published_table(comparison, expected) if expected else None,
    }


def _shots(drawings: Figures) -> list[EmbeddedImage]:
    return [drawing.picture.shot() for drawing in drawings.values()]


def _subgroups(
    arms: Sequence[Arm],
) -> list[tuple[EmbeddedImage | None, Table, Table | None]]:
    """Return figure (or None), table and gaps table (or None) of each column."""
    drawn = subgroup_figures(arms)
    return [
        (
            drawn[column].picture.shot() if column in drawn else None,
            subgroup_table(arms, column),
            gaps_table(arms, column),
        )
        for column in subgroup_columns(arms)
    ]


def _validations(arms: Sequence[Arm]) -> list[Table]:
    """Tabulate external validations: a table for each set, a row for each run."""
    by_set: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for arm in arms:
        for run in arm.runs:
            for name, metrics in read_validations(run.folder).items():
                row = f"{arm.name}, seed {run.seed}"
                by_set.setdefault(name, []).append((row, metrics))
    return [runs_table(rows) for rows in by_set.values()]


def _has_costs(arms: Sequence[Arm]) -> bool:
    return any(run.history or run.environment for arm in arms for run in arm.runs)


def _when(arms: Sequence[Arm]) -> str:
    """Return the time of the newest run, from its files."""
    times = [(r.folder / METRICS).stat().st_mtime for a in arms for r in a.runs]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """List the sections of the page, as (anchor, name)."""
    sections = (
        ("results", "Results", True),
        ("external", "External validation", True),
        ("discrimination", "ROC and PR curves", True),
        ("maps", "Images and saliency maps", context["filters"]),
        ("faithfulness", "Faithfulness", any(a["measures"] for a in context["arms"])),
        ("thresholds", "Thresholds", True),
        ("classes", "Classes", True),
        ("subgroups", "Subgroups", context["subgroups"]),
        ("calibration", "Calibration", True),
        ("utility", "Decision curves", True),
        ("published", "Published results", context["published"]),
        ("data", "Data", True),
        ("training", "Training", context["cost"]),
        ("card", "Model card", True),
        ("protocol", "Setup", True),
    )
    return [(anchor, name) for anchor, name, present in sections if present]
