"""Tables of what a run recorded: data, parameters, environment, cost."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    count,
    estimate,
    metric_title,
    number,
    rate,
    word,
)
from jaxmed.runs.layout import SKIPPED
from jaxmed.runs.record import Arm, RunRecord

SPLITS = ("train", "val", "test")
SKIPPED_SHOWN = 40
"""Rows of the list of skipped files; skipped.csv has them all."""


def data_table(run: RunRecord) -> Table:
    """Tabulate images, patients and images of every class, by split.

    Older runs did not record the classes of training images.
    """
    data = run.environment.get("data", {})
    counts = {s: _class_counts(run, s) for s in SPLITS}
    sizes = {s: len(p.ids) for s, p in run.predictions.items()} | data.get("sizes", {})
    rows = [(word("images"), *(count(sizes.get(s)) for s in SPLITS))]
    if groups := data.get("groups"):
        rows.append((word("patients or groups"), *(count(groups[s]) for s in SPLITS)))
    for name in run.class_names:
        cells = (_share(counts[s].get(name), sizes.get(s)) for s in SPLITS)
        rows.append((word(name), *cells))
    return Table(
        caption="Images by split and class",
        head=("", *SPLITS),
        rows=tuple(rows),
        note=_data_note(run),
    )


def skipped_table(run: RunRecord) -> Table | None:
    """The files or rows of the source that are in no split; None if there are none."""
    path: Path = run.folder / SKIPPED
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        skipped = [(row["name"], row["reason"]) for row in csv.DictReader(file)]
    more = len(skipped) - SKIPPED_SHOWN
    return Table(
        caption=f"Skipped: {len(skipped):,} files or rows of the source",
        head=("name", "reason"),
        rows=tuple(
            (word(name), word(reason)) for name, reason in skipped[:SKIPPED_SHOWN]
        ),
        note=f"And {more:,} more, in skipped.csv of the run." if more > 0 else "",
    )


def patients_sentence(data: Mapping[str, Any]) -> str:
    """Return a sentence on whether a patient is in more than one split."""
    if "groups" not in data:
        return "Patients are not known."
    across = data.get("groups_in_several_splits", 0)
    if across:
        return f"{across:,} patients or groups are in more than one split."
    return "No patient or group is in more than one split."


def _class_counts(run: RunRecord, split: str) -> dict[str, int]:
    recorded = run.environment.get("data", {}).get("counts", {})
    if split in recorded:
        return recorded[split]
    if split not in run.predictions:
        return {}
    truth = run.predictions[split].truth
    return dict(zip(run.class_names, truth.sum(axis=0).tolist(), strict=True))


def _share(images: int | None, total: int | None) -> Cell:
    if images is None or not total:
        return Cell(text="–", note="not recorded")
    return Cell(text=f"{images:,}", exact=images, range=f"{images / total:.1%}")


def _data_note(run: RunRecord) -> str:
    data = run.environment.get("data", {})
    sentences = [patients_sentence(data)]
    if "skipped" in data and not data["skipped"]:
        sentences.append("No file of the source was skipped.")
    if run.task == "multilabel":
        sentences.append("An image may have several labels, or none.")
        unknown = sum(int((~p.known).sum()) for p in run.predictions.values())
        if unknown:
            sentences.append(f"{unknown:,} labels of val and test are not known.")
    return " ".join(sentences)


def cost_table(comparison: Comparison) -> Table:
    """Tabulate the cost of each arm: test metric, trained parameters, epochs, seconds.

    Trained parameters are the most in any phase. Epochs and seconds, which are those
    of training with its validation, are means over the seeds.
    """
    metric = COMPARED[0]
    rows = []
    for arm in comparison.arms:
        entry = comparison.estimate(arm, "test", metric)
        rows.append((word(arm.name), estimate(entry), *_costs(arm)))
    head = ("arm", f"test {metric_title(metric)}", "trained parameters")
    return Table(
        caption="Cost",
        head=(*head, "epochs", "seconds", "images/s"),
        rows=tuple(rows),
        note="Parameters: the maximum over phases. Epochs, seconds (training "
        "with validation and checkpoints) and images per second (training only, "
        "median epoch): mean over seeds; both depend on the machine and its load.",
    )


def _costs(arm: Arm) -> tuple[Cell, ...]:
    environments = [run.environment for run in arm.runs]
    trained = [n for env in environments if (n := _most_trained(env)) is not None]
    seconds = [env["seconds"] for env in environments if env.get("seconds")]
    epochs = [len(run.history) for run in arm.runs if run.history]
    speeds = [
        sorted(row["images_per_second"] for row in run.history)[len(run.history) // 2]
        for run in arm.runs
        if run.history
    ]
    return (
        count(max(trained) if trained else None),
        number(_mean(epochs), digits=0),
        number(_mean(seconds), digits=0),
        number(_mean(speeds), digits=0),
    )


def _most_trained(environment: dict[str, Any]) -> int | None:
    phases = environment.get("parameters", {}).get("phases", [])
    return max((phase["trainable"] for phase in phases), default=None)


def _mean(values: list[Any]) -> float | None:
    return fmean(values) if values else None


def groups_table(run: RunRecord) -> Table | None:
    """Tabulate the parameter groups of each phase; None if the run has no record."""
    parameters = run.environment.get("parameters")
    if not parameters:
        return None
    total, rows, blank = parameters.get("total"), [], Cell(text="")
    for phase in parameters.get("phases", ()):
        head = [word(phase.get("name", "")), count(phase.get("epochs"))]
        for group in phase.get("groups", ()):
            patterns = group.get("patterns", "")
            if not isinstance(patterns, str):
                patterns = ", ".join(patterns)
            rows.append(
                (
                    *head,
                    word(group.get("name", "")),
                    word(patterns),
                    count(group.get("parameters")),
                    word(group.get("optimizer", "")),
                    rate(group.get("learning_rate")),
                )
            )
        rows.append(_trainable(phase, total))
        rows += [
            (head[0], blank, word(name), word(words), blank, blank, blank)
            for name, words in _phase_remarks(phase)
        ]
    head = ("phase", "epochs", "group", "pattern", "parameters", "optimizer", "rate")
    return Table(caption="Groups of parameters, by phase", head=head, rows=tuple(rows))


def _phase_remarks(phase: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if (schedule := phase.get("schedule")) and schedule != "constant":
        yield "schedule", str(schedule)
    if patterns := phase.get("updating_bn_stats"):
        yield "BatchNorm", f"statistics of frozen layers update: {', '.join(patterns)}"
    if patterns := phase.get("frozen_bn_stats"):
        yield "BatchNorm", f"statistics of trained layers frozen: {', '.join(patterns)}"


def _trainable(phase: Mapping[str, Any], total: int | None) -> tuple[Cell, ...]:
    trainable = phase.get("trainable")
    words = f"of {total:,} in all" if total else ""
    if total and trainable is not None:
        words += f" ({_percent(trainable / total)})"
    blank = Cell(text="")
    name = word(phase.get("name", ""))
    return (name, blank, word("trainable"), word(words), count(trainable), blank, blank)


def _percent(share: float) -> str:
    return "less than 0.01 %" if 0 < share < 1e-4 else f"{share * 100:.4g} %"


def environment_table(run: RunRecord) -> Table:
    """Tabulate environment.json without the parameter groups."""
    kept = {k: v for k, v in run.environment.items() if k != "parameters"}
    rows = tuple((word(name), word(value)) for name, value in _flat(kept))
    return Table(caption="environment.json", head=("entry", "value"), rows=rows)


def _flat(entries: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, list):
            yield f"{above}{name}", ", ".join(map(str, value))
        else:
            yield f"{above}{name}", str(value)
