"""Tables of an external validation: differences, refitting, numbers of images."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmed.report.figures.style import format_number
from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    count,
    estimate,
    footnotes,
    metric_title,
    number,
    word,
)

Metrics = Mapping[str, Any]
"""The content of a metrics.json: a run's, or an external validation's."""
OVERALL = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1", "mcc")
DECIDED = (
    *("sensitivity", "specificity", "accuracy", "ppv", "npv", "f1"),
    *("lr_positive", "lr_negative"),
)
PROBABILITIES = ("log_loss", "brier", "oe_ratio", "intercept", "slope", "ece")
RUNS = ("auroc", "accuracy", "sensitivity", "specificity", "log_loss_calibrated")


def pick(metrics: Metrics, part: str, name: str) -> Mapping[str, Any]:
    """Return an estimate of metrics.json, or an empty one."""
    if part == "calibration":
        table = metrics["calibration"].get("test", {})
    else:
        table = metrics.get(part) or {}
    entry = table.get(name)
    return entry if isinstance(entry, Mapping) and "value" in entry else {}


def shown_metrics(metrics: Metrics) -> list[tuple[str, str]]:
    """List the metrics of an external validation by part of metrics.json and name."""
    binary = metrics["task"] == "binary"
    pairs = [("test", name) for name in OVERALL[: 2 if binary else None]]
    if binary:
        pairs += [("test_at_threshold", name) for name in DECIDED]
    for name in PROBABILITIES:
        pairs += [("calibration", f"{name}{end}") for end in ("", "_calibrated")]
    return [pair for pair in pairs if pick(metrics, *pair)]


def comparison_table(metrics: Metrics, internal: Metrics) -> Table:
    """Tabulate each metric on the external set, on the run's test, and the difference.

    Args:
        metrics: of the validation.
        internal: of the run.
    """
    rows = []
    for part, name in shown_metrics(metrics):
        difference = metrics["difference"].get(part, {}).get(name)
        rows.append(
            (
                word(metric_title(name)),
                estimate(pick(metrics, part, name)),
                estimate(pick(internal, part, name) or None),
                estimate(difference, sign=True),
            )
        )
    sizes = (
        f"{metrics['test']['n']:,} external and {internal['test']['n']:,} "
        "internal images"
    )
    note = (
        "Decisions at the threshold chosen on val. Differences are unpaired, of "
        "independent images. Predictive values, accuracy, F1 and AUPRC also differ "
        "because the shares of the classes do."
    )
    return Table(
        caption=f"External and internal test, {sizes}",
        head=("", "external", "internal test", "difference"),
        rows=tuple(rows),
        note=" ".join(filter(None, (note, footnotes(rows)))),
    )


def classes_table(metrics: Metrics, internal: Metrics) -> Table:
    """Tabulate images by class, external and internal."""
    rows = []
    for name, of_class in metrics["per_class"]["test"].items():
        cells = []
        for source, entry in (
            (metrics, of_class),
            (internal, internal["per_class"]["test"][name]),
        ):
            total = entry.get("n", source["test"]["n"])
            share = f"{entry['support'] / total:.1%}" if total else ""
            cells.append(
                Cell(text=f"{entry['support']:,}", exact=entry["support"], range=share)
            )
        rows.append((word(name), *cells))
    return Table(
        caption="Images by class",
        head=("class", "external", "internal test"),
        rows=tuple(rows),
    )


def refitting_table(metrics: Metrics) -> Table:
    """Tabulate metrics by the number k of external images that are fitted on."""
    curve = metrics["refitting"]
    names = list(curve["unchanged"])
    rows = [
        (word("none: as it is"), *(number(curve["unchanged"][name]) for name in names))
    ]
    for point in curve["sizes"]:
        cells = []
        for name in names:
            of = point["metrics"].get(name)
            if of is None:
                cells.append(Cell(text="–"))
                continue
            ends = f"{format_number(of['low'])} to {format_number(of['high'])}"
            cells.append(
                Cell(text=format_number(of["mean"]), exact=of["mean"], range=ends)
            )
        rows.append((word(f"{point['k']:,}"), *cells))
    failed = [point for point in curve["sizes"] if point["not_refitted"]]
    note = (
        f"Mean, and 2.5th to 97.5th percentile, over {curve['draws']} draws of k "
        "images; measured on all the others. Losses are those of calibrated "
        "probabilities."
    )
    if failed:
        shares = ", ".join(
            f"{failure['not_refitted']:.0%} of k = {failure['k']}" for failure in failed
        )
        note += f" Draws of one class only, in which nothing was fitted: {shares}."
    return Table(
        caption="Threshold and calibration fitted anew on k external images",
        head=("k", *map(metric_title, names)),
        rows=tuple(rows),
        note=note,
    )


def images_table(metrics: Metrics) -> Table:
    """Tabulate how many images an interval of a given width needs."""
    needed = metrics["images_needed"]
    rows = []
    for name, of in needed["metrics"].items():
        title, _, label = name.partition(" of ")
        shown = metric_title(title) + (f" of {label}" if label else "")
        cells = (
            count(size) if size is not None else Cell(text="–", note="over 10 million")
            for size in of["images"]
        )
        rows.append((word(shown), number(of["value"]), *cells))
    return Table(
        caption="Images that a 95 % interval needs, by its width",
        head=("", "value here", *(f"{width:g} wide" for width in needed["widths"])),
        rows=tuple(rows),
        note="All images, at these values and shares of the classes, independent of "
        "each other; where patients have several images, more.",
    )


def runs_table(runs: Sequence[tuple[str, Metrics]]) -> Table:
    """Tabulate several runs on one external set: a row each.

    Args:
        runs: name and metrics of each validation.
    """
    first = runs[0][1]
    binary = first["task"] == "binary"
    part_of = {"log_loss_calibrated": "calibration"}
    at = "test_at_threshold" if binary else "test"
    part_of |= {"auroc": "test", "accuracy": at}
    part_of |= {"sensitivity": at, "specificity": at} if binary else {}
    names = [name for name in RUNS if name in part_of]
    rows = []
    for name, metrics in runs:
        cells: list[Cell] = []
        for metric in names:
            cells.append(estimate(pick(metrics, part_of[metric], metric)))
        auroc = metrics["difference"].get("test", {}).get("auroc")
        cells.append(estimate(auroc, sign=True))
        ood = metrics["validation"].get("out_of_distribution")
        cells.append(estimate(ood["share"] if ood else None))
        rows.append((word(name), *cells))
    title = first["validation"]["name"]
    return Table(
        caption=f"External validation on {title}, {first['test']['n']:,} images",
        head=(
            "run",
            *map(metric_title, names),
            "AUROC, external − internal",
            "out of distribution",
        ),
        rows=tuple(rows),
        note="Decisions at each run's threshold, chosen on its val. " + footnotes(rows),
    )
