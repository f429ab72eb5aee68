"""Page of an external validation: a run on labeled images of another source."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jaxmed.report.figures.catalog import CatalogFigure
from jaxmed.report.figures.discrimination import (
    draw_binary_precision_recall,
    draw_binary_roc,
    draw_class_precision_recall,
    draw_class_roc,
    draw_confusion,
)
from jaxmed.report.figures.forest import draw_forest
from jaxmed.report.figures.probability_curves import (
    draw_decision_curves,
    draw_reliability,
    draw_risk_coverage,
)
from jaxmed.report.figures.refitting_curve import draw_refitting
from jaxmed.report.figures.style import color
from jaxmed.report.interactive.gallery import (
    EMBEDDED,
    describe_gallery,
    gallery_filters,
    gallery_items,
)
from jaxmed.report.page import EmbeddedImage, render_page
from jaxmed.report.tables.by_patient import patient_table
from jaxmed.report.tables.decisions import class_table, confusion_table
from jaxmed.report.tables.external_validation import (
    Metrics,
    classes_table,
    comparison_table,
    images_table,
    pick,
    refitting_table,
)
from jaxmed.report.tables.formatting import Table, estimate, metric_title
from jaxmed.report.tables.results import make_line
from jaxmed.report.tables.subgroups import (
    draw_subgroups,
    gaps_table,
    subgroup_columns,
    subgroup_table,
)
from jaxmed.report.text.captions import describe_input
from jaxmed.report.text.external_validation import (
    CANNOT_TELL,
    ensemble_sentences,
    ood_sentence,
    validation_headline,
)
from jaxmed.report.text.model_card import CAUTION
from jaxmed.runs.layout import REPORT
from jaxmed.runs.record import Arm, RunRecord, read_validation
from jaxmed.runtime.files import write_text

# Differences whose scale is that of shares, for one picture of all.
DRAWN = (
    ("test", "auroc"),
    ("test", "auprc"),
    ("test_at_threshold", "sensitivity"),
    ("test_at_threshold", "specificity"),
    ("test_at_threshold", "accuracy"),
    ("test", "balanced_accuracy"),
    ("calibration", "ece_calibrated"),
)


def build_validation_page(
    folder: Path, internal: Metrics, environment: dict[str, Any]
) -> Path:
    """Write report.html into the folder of an external validation.

    Args:
        folder: with metrics.json, predictions.csv and cams/.
        internal: metrics.json of the run.
        environment: environment.json of the run.

    Returns:
        The path of the page.
    """
    run = read_validation(folder, environment)
    metrics = run.metrics
    arm = Arm(name="external", runs=(run,))
    described = metrics["validation"]
    gallery = {
        "name": arm.name,
        "color": color(0),
        "gallery": gallery_items(run, EMBEDDED),
    }
    html = render_page(
        "external_validation.html.j2",
        title=f"{described['run']['name']} on {described['name']}",
        headline=validation_headline(metrics, internal),
        ood=ood_sentence(metrics),
        cannot_tell=CANNOT_TELL,
        facts=_facts(run, internal),
        notes=described["notes"],
        caution=CAUTION,
        differences=[
            _shot(_differences(metrics), "Differences from the internal test")
        ],
        comparison=comparison_table(metrics, internal),
        patients=patient_table([arm]),
        classes=classes_table(metrics, internal),
        by_class=None if run.task == "binary" else class_table(arm),
        curves=_curves(run, arm),
        counts=confusion_table(arm),
        filters=gallery_filters([gallery], arm.name),
        gallery=gallery,
        maps=describe_gallery([arm]).replace("Test images", "External images"),
        subgroups=_subgroups(arm),
        reliability=_shot(draw_reliability(run), "Reliability diagram"),
        utility=_utility(run, arm),
        refitting=[
            _shot(draw_refitting(metrics["refitting"]), "Metrics by images fitted on")
        ]
        if metrics["refitting"]["sizes"]
        else [],
        refitted=refitting_table(metrics),
        needed=images_table(metrics),
        ensemble=ensemble_sentences(metrics, internal),
    )
    path = folder / REPORT
    write_text(path, html)
    return path


def _shot(figure: Figure | None, subject: str) -> EmbeddedImage | None:
    if figure is None:
        return None
    alt = f"{subject}, on the external images."
    return CatalogFigure(figure=figure, alt=alt).picture.shot()


def _facts(run: RunRecord, internal: Metrics) -> list[tuple[str, str]]:
    metrics, described = run.metrics, run.metrics["validation"]
    images = f"{metrics['test']['n']:,}"
    if "groups" in metrics["test"]:
        images += f" of {metrics['test']['groups']:,} patients"
    facts = [
        ("External images", f"{described['source']}: {images}"),
        ("Run", str(described["run"]["folder"] or described["run"]["name"])),
        ("Trained on", str(run.environment.get("data", {}).get("source", "?"))),
        ("Network input", describe_input(run)),
        ("Internal test", f"{internal['test']['n']:,} images"),
    ]
    if ood := described.get("out_of_distribution"):
        facts.append(("Out of distribution", estimate(ood["share"]).line))
    if described["skipped"]:
        facts.append(("Left out", f"{described['skipped']:,} files or rows"))
    return facts


def _differences(metrics: Metrics) -> Figure:
    lines = []
    for part, name in DRAWN:
        entry = metrics["difference"].get(part, {}).get(name)
        if entry is not None and pick(metrics, part, name):
            lines.append(make_line(0, metric_title(name), entry))
    return draw_forest(lines, "external − internal test", zero=True)


def _curves(run: RunRecord, arm: Arm) -> list[EmbeddedImage]:
    if run.task == "binary":
        roc, recall = draw_binary_roc([arm]), draw_binary_precision_recall([arm])
    else:
        roc, recall = draw_class_roc(run), draw_class_precision_recall(run)
    shots = [_shot(roc, "ROC curve"), _shot(recall, "Precision-recall curve")]
    if matrix := run.metrics["confusion_matrix"].get("test"):
        shots.append(_shot(draw_confusion(matrix, run.class_names), "Confusion matrix"))
    return [shot for shot in shots if shot is not None]


def _utility(run: RunRecord, arm: Arm) -> list[EmbeddedImage]:
    figures = [draw_decision_curves([arm])] if run.task == "binary" else []
    figures.append(draw_risk_coverage([arm]))
    shots = (_shot(figure, "Decision or risk-coverage curve") for figure in figures)
    return [shot for shot in shots if shot is not None]


def _subgroups(arm: Arm) -> list[tuple[EmbeddedImage | None, Table, Table | None]]:
    return [
        (
            _shot(draw_subgroups([arm], column), f"AUROC by {column}"),
            subgroup_table([arm], column),
            gaps_table([arm], column),
        )
        for column in subgroup_columns([arm])
    ]
