"""Data sheet of a data set: counts, images, duplicates, patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxmed.report.figures.style import (
    color,
    label,
    legend_below,
    new_figure,
    png,
    styled,
)
from jaxmed.report.page import (
    EmbeddedImage,
    embed_array,
    embed_figure,
    embed_samples,
    render_page,
)
from jaxmed.report.tables.formatting import Cell, Table, count, number, word
from jaxmed.report.text.audit import (
    Findings,
    finding_sentences,
    format_imbalance,
    leakage_sentence,
)
from jaxmed.runtime.files import write_text

ROWS_SHOWN = 40
"""Rows of a list in the page; the JSON beside it has them all."""


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two images that are the same, to be shown side by side.

    Attributes:
        group: one of the findings' exact or near duplicates.
        images: two of its images, uint8 (h, w, 1 or 3), in the order of its ids.
    """

    group: Findings
    images: tuple[np.ndarray, np.ndarray]


def build_data_sheet(
    path: Path,
    findings: Findings,
    *,
    samples: Path,
    means: Mapping[str, np.ndarray],
    pairs: Sequence[DuplicatePair],
) -> None:
    """Write the page.

    Args:
        path: of the HTML file; it is there complete or not at all.
        findings: as inspect-NAME.json holds it.
        samples: a picture of some images of every class.
        means: by class, its mean image, uint8 (h, w, 1 or 3).
        pairs: duplicates to be shown.
    """
    patients = findings["patients"]
    html = render_page(
        "data_sheet.html.j2",
        title=findings["name"],
        found=findings,
        headline=leakage_sentence(findings),
        sentences=finding_sentences(findings),
        facts=_facts(findings),
        counts=_count_table(findings),
        bars=embed_figure(
            png(draw_counts(findings["counts"])), "Images of every class."
        ),
        images=_image_table(findings),
        files=_file_table(findings["files"]) if findings["files"] else None,
        samples=embed_samples(samples),
        means=[
            embed_array(mean, f"Mean image of {name}.", name)
            for name, mean in means.items()
        ],
        pairs=[_pair_images(pair) for pair in pairs],
        duplicates=_duplicate_table(findings) if _duplicates(findings) else None,
        patients=_patient_table(patients) if patients else None,
    )
    write_text(path, html)


# Of more classes, a picture has only so many bars: the table has all counts.
BARS = 100


@styled
def draw_counts(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw a bar per class and split.

    Args:
        counts: by split, by class.
    """
    names = list(next(iter(counts.values())))
    total, names = len(names), names[:BARS]
    height = 0.8 / len(counts)
    figure, (axes,) = new_figure(1.1 + 0.22 * len(names) * len(counts))
    for index, (split, by_class) in enumerate(counts.items()):
        positions = np.arange(len(names)) + (index - (len(counts) - 1) / 2) * height
        images = [by_class[name] for name in names]
        axes.barh(positions, images, height, color=color(index), label=split)
    axes.set_yticks(np.arange(len(names)), [label(name) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    more = f" (of the first {BARS} of {total:,} classes)" if total > BARS else ""
    axes.set_xlabel(f"images{more}")
    legend_below(figure, [axes], columns=len(counts))
    return figure


def _facts(findings: Findings) -> list[tuple[str, str]]:
    total = sum(images["count"] for images in findings["images"].values())
    return [
        ("source", findings["source"]),
        ("images", f"{total:,}"),
        ("task", f"{findings['task']}, {len(findings['class_names'])} classes"),
        ("fingerprint", findings["fingerprint"][:16]),
    ]


def _count_table(findings: Findings) -> Table:
    splits = list(findings["counts"])
    rows = [
        (word(name), *(count(findings["counts"][split][name]) for split in splits))
        for name in findings["class_names"]
    ]
    ratios = [findings["imbalance"][split] for split in splits]
    return Table(
        caption="Images of every class",
        head=("class", *splits),
        rows=(*rows, (word("largest / smallest"), *(_ratio(r) for r in ratios))),
    )


def _ratio(ratio: float | None) -> Cell:
    if ratio is None:
        return Cell(text="–", note=format_imbalance(ratio))
    return number(ratio, digits=2)


def _image_table(findings: Findings) -> Table:
    rows = [
        (
            word(split),
            count(images["count"]),
            word(f"{images['width']} × {images['height']}"),
            count(images["channels"]),
            Cell(text=f"{images['gray']:.1%}", exact=images["gray"]),
        )
        for split, images in findings["images"].items()
    ]
    return Table(
        caption="The images as they were loaded",
        head=("split", "images", "pixels", "channels", "all channels equal"),
        rows=tuple(rows),
        note="Files that cannot be read are refused by name while loading.",
    )


def _file_table(files: Findings) -> Table:
    rows = [
        (
            word(f"{split}, {name}"),
            word(_frequent(headers["modes"])),
            count(len(headers["sizes"])),
            word(_frequent(headers["sizes"])),
        )
        for split, by_class in files.items()
        for name, headers in by_class.items()
    ]
    return Table(
        caption="The files",
        head=("class", "modes", "sizes", "most frequent"),
        rows=tuple(rows),
    )


def _frequent(counts: Mapping[str, int], shown: int = 3) -> str:
    entries = [f"{name} ({n:,})" for name, n in list(counts.items())[:shown]]
    return ", ".join(entries) + (", …" if len(counts) > shown else "")


def _duplicates(findings: Findings) -> list[Findings]:
    duplicates = findings["duplicates"]
    groups = [*duplicates["exact"], *duplicates["near"]]
    return sorted(
        groups,
        key=lambda group: (not group["across_splits"], not group["labels_differ"]),
    )


def _duplicate_table(findings: Findings) -> Table:
    groups = _duplicates(findings)
    rows = []
    for group in groups[:ROWS_SHOWN]:
        members = list(zip(group["ids"], group["labels"], strict=True))[:ROWS_SHOWN]
        rows.append(
            (
                word(group["kind"]),
                word("yes" if group["across_splits"] else "no"),
                word("yes" if group["labels_differ"] else "no"),
                number(group["similarity"], digits=4),
                word(
                    "; ".join(f"{name} ({class_name})" for name, class_name in members)
                ),
            )
        )
    more = len(groups) - ROWS_SHOWN
    return Table(
        caption="Duplicates",
        head=("kind", "across splits", "labels differ", "correlation", "images"),
        rows=tuple(rows),
        note=f"And {more:,} more, in the JSON beside this page." if more > 0 else "",
    )


def _patient_table(patients: Findings) -> Table | None:
    across = patients["across"]
    if not across:
        return None
    rows = [
        (word(name), *(_members(by_split.get(s, ())) for s in ("train", "val", "test")))
        for name, by_split in list(across.items())[:ROWS_SHOWN]
    ]
    more = len(across) - ROWS_SHOWN
    return Table(
        caption="Patients or groups in more than one split",
        head=("group", "train", "val", "test"),
        rows=tuple(rows),
        note=f"And {more:,} more, in the JSON beside this page." if more > 0 else "",
    )


def _members(ids: Sequence[str]) -> Cell:
    return word(", ".join(ids[:5]) + (", …" if len(ids) > 5 else "") or "–")


def _pair_images(pair: DuplicatePair) -> dict[str, Any]:
    findings, shots = pair.group, list[EmbeddedImage]()
    for image, name, class_name in zip(
        pair.images, findings["ids"], findings["labels"], strict=False
    ):
        shots.append(
            embed_array(image, f"Image {name}, {class_name}.", f"{name}: {class_name}")
        )
    tags = [
        ("across splits", findings["across_splits"]),
        ("labels differ", findings["labels_differ"]),
    ]
    near = findings["kind"] == "near"
    return {
        "name": f"near, correlation {findings['similarity']:.4f}" if near else "exact",
        "tags": [tag for tag, holds in tags if holds],
        "images": shots,
    }
