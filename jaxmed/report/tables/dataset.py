"""The data of the experiment in one table, from what its runs recorded."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmed.report.tables.formatting import Cell, Table, count, word
from jaxmed.runs.record import RunRecord

SPLITS = ("train", "val", "test")
SHOWN = 40
"""Rows of the list of skipped files; skipped.csv has them all."""


def data_table(run: RunRecord) -> Table:
    """Images, patients and images of every class, by split.

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
        note=_remarks(run),
    )


def skipped_table(run: RunRecord) -> Table | None:
    """The files or rows of the source that are in no split; None if there are none."""
    path: Path = run.folder / "skipped.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        found = [(row["name"], row["reason"]) for row in csv.DictReader(file)]
    more = len(found) - SHOWN
    return Table(
        caption=f"Skipped: {len(found):,} files or rows of the source",
        head=("name", "reason"),
        rows=tuple((word(name), word(reason)) for name, reason in found[:SHOWN]),
        note=f"And {more:,} more, in skipped.csv of the run." if more > 0 else "",
    )


def patients_sentence(data: Mapping[str, Any]) -> str:
    """Says whether a patient is in more than one split, as far as is known."""
    if "groups" not in data:
        return "Which images are of one patient was not told."
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


def _share(images: int | None, whole: int | None) -> Cell:
    if images is None or not whole:
        return Cell(text="–", note="not recorded")
    return Cell(text=f"{images:,}", exact=images, range=f"{images / whole:.1%}")


def _remarks(run: RunRecord) -> str:
    data = run.environment.get("data", {})
    said = [patients_sentence(data)]
    if "skipped" in data and not data["skipped"]:
        said.append("Nothing of the source was skipped.")
    if run.task == "multilabel":
        said.append("An image may be of several classes, or of none.")
        unknown = sum(int((~p.known).sum()) for p in run.predictions.values())
        if unknown:
            said.append(f"{unknown:,} labels of val and test are not known.")
    return " ".join(said)
